"""A network that was ported from torch to JAX: the port, and a port with a real fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict

TORCH, JAX, FAULTY = (f"py:jax_factories:{name}" for name in ("torch_twin", "encoder", "tanh_encoder"))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "runtime"))


def test_a_port_to_jax_is_equivalent_in_both_directions():
    for reference, candidate in ((TORCH, JAX), (JAX, TORCH)):
        evidence = verify(reference, candidate, localise=False)
        assert evidence.verdict is Verdict.PASS, evidence.summary
        assert evidence.parameters["floor"] == "float64"


def test_the_other_gelu_is_found():
    evidence = verify(TORCH, FAULTY, localise=False)
    assert evidence.verdict is Verdict.FAIL
    assert {finding.where.field for finding in evidence.findings if finding.rule == "divergence.beyond"} == {
        "logits",
        "pooled",
    }
