"""Claims about real models on real data, with references to the unpacked packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.conceptual.claim import SCHEMA


@pytest.fixture
def claim_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a claim file: `claim_file(model=…, data=…, …)`; values are YAML as given."""

    def write(**fields: object) -> Path:
        path = tmp_path / "claim.yaml"
        lines = [f"schema: {SCHEMA}", *(f"{key}: {value}" for key, value in fields.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def vad_fields(asset: Callable[..., Path]) -> dict[str, object]:
    """silero-vad on pyannote's sample."""
    return {
        "model": asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.onnx",
        "data": asset("pypi", "pyannote-audio", "4.0.7") / "pyannote/audio/sample",
        "evaluation": "voice-activity",
        "metric": "roc_auc",
        "value": '"0.9958"',
        "scoring": "{label: last}",
    }
