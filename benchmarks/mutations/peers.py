"""Tools of the ONNX world in a virtual environment of their own: Polygraphy to compare with, onnxslim to rewrite."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

VENV = Path(__file__).parents[2] / ".venv-onnx-peers"
PACKAGES = ("polygraphy==0.53.6", "onnxslim==0.1.98", "onnx==1.23.2", "onnxruntime==1.32.0", "onnx-graphsurgeon==0.6.1")


def program(name: str) -> str:
    """Path of a peer's command; installs the peers when they are not there."""
    if not (VENV / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "--quiet", *PACKAGES], check=True)
        (VENV / ".ready").touch()
    return str(VENV / "bin" / name)


def slimmed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network as onnxslim simplifies it.

    Raises:
        subprocess.CalledProcessError: onnxslim refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(proto, str(before))
        subprocess.run([program("onnxslim"), before, after], check=True, capture_output=True)
        return onnx.load(str(after))
