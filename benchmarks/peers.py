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


OLIVE_VENV = VENV.with_name(".venv-olive")
ONNX2TF_VENV = VENV.with_name(".venv-onnx2tf")
_OLIVE = (
    "olive-ai==0.13.0", "opentelemetry-sdk", "opentelemetry-api", "opentelemetry-semantic-conventions", "optuna",
    "alembic", "sqlalchemy", "colorlog", "questionary", "prompt_toolkit", "wcwidth", "torchmetrics",
    "lightning-utilities", "importlib_metadata", "zipp",
)  # fmt: skip
_ONNX2TF = (
    "onnx2tf==1.29.24", "onnxruntime==1.23.0", "onnx-graphsurgeon==0.5.8", "psutil", "onnxsim==0.4.36",
    "onnxoptimizer==0.4.2", "simple-onnx-processing-tools==1.1.32", "ai-edge-litert==2.1.0", "sng4onnx", "tqdm",
    "opencv-python-headless==4.11.0.86", "backports.strenum", "coloredlogs", "humanfriendly", "sympy", "mpmath",
)  # fmt: skip


def olive() -> str:
    """A Python that has Olive beside the torch and onnx of the project."""
    return _beside(OLIVE_VENV, Path(sys.executable), _OLIVE)


def onnx2tf() -> str:
    """A Python that has onnx2tf beside the environment `tensorflow`."""
    from regraft.runtime.environments import make_environment

    return _beside(ONNX2TF_VENV, make_environment("tensorflow"), _ONNX2TF)


def _beside(venv: Path, python: Path, packages: tuple[str, ...]) -> str:
    """An environment of exactly these packages that sees those of another one."""
    if not (venv / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        say = "import sysconfig; print(sysconfig.get_path('purelib'))"
        here, there = (
            subprocess.run([one, "-c", say], check=True, capture_output=True, text=True).stdout.strip()
            for one in (venv / "bin/python", python)
        )
        (Path(here) / "beside.pth").write_text(there)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "--no-deps", *packages], check=True)
        (venv / ".ready").touch()
    return str(venv / "bin/python")


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
