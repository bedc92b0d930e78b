"""The peers, in a virtual environment of their own: the newest releases, compiled to .pyc once."""

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


def program(name: str) -> str:
    """Path of a peer's command; installs the peers when it is not there."""
    if not (VENV / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "install", "--quiet", *PACKAGES], check=True)
        (VENV / ".ready").touch()
    return str(VENV / "bin" / name)


compileall.compile_dir(Path(__file__).parent.parent / "src", quiet=1)  # as pip does with what it installs
OURS = str(Path(sys.executable).parent / "regraft")
