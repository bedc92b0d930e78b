"""dlib's models: a network and a shape predictor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats.dlib import Dlib
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader


@pytest.mark.parametrize(
    ("file", "facts"),
    [
        ("dlib_face_recognition_resnet_model_v1.dat", {"kind": "network", "loss": "loss_metric_2"}),
        ("shape_predictor_68_face_landmarks.dat", {"kind": "shape predictor", "landmarks": "68"}),
    ],
)
def test_real_models(asset: Callable[[str, str, str], Path], file: str, facts: dict[str, str]) -> None:
    path = asset("pypi", "face_recognition_models", "0.1.3") / "face_recognition_models/models" / file
    probe = Probe(FileReader(path), file)
    assert Dlib().matches(probe)
    assert Dlib().describe(probe).metadata == facts
    assert probe.reader.meter.bytes_read <= 4096


@pytest.mark.parametrize("data", [b"", b"\x01\x01", b"\x01\x01\x01\x0dloss", b"\x01\x01\x01\x08innocent", b"\x7f" * 90])
def test_other_content(data: bytes) -> None:
    assert not Dlib().matches(Probe(BytesReader(data, where="x"), "x.dat"))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    hammer(Dlib(), b"\x01\x01\x01\x0dloss_metric_2" + bytes(60))
