"""The peers, in virtual environments of their own: the newest releases, compiled to .pyc once."""

from __future__ import annotations

import compileall
import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).parent.parent / ".venv-peers"
PACKAGES = (
    "picklescan==1.0.5",
    "modelscan==0.8.8",
    "fickling==0.1.12",
    "typing_extensions",  # fickling imports it without saying so
    "h5py",
    "polygraphy==0.53.6",
    "setuptools<81",
)


MODELAUDIT_VENV = VENV.with_name(".venv-modelaudit")
MODELAUDIT_PACKAGES = ("modelaudit==0.2.54", "h5py", "onnx")


def program(name: str) -> str:
    """Path of a peer's command; installs the peers when it is not there."""
    venv, packages = (MODELAUDIT_VENV, MODELAUDIT_PACKAGES) if name == "modelaudit" else (VENV, PACKAGES)
    if not (venv / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", *packages], check=True)
        (venv / ".ready").touch()
    return str(venv / "bin" / name)


compileall.compile_dir(Path(__file__).parent.parent / "src", quiet=1)  # as pip does with what it installs
OURS = str(Path(sys.executable).parent / "regraft")
