"""A plain bundle behind a real server of the Open Inference Protocol, compared by verify over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from regraft.deployment.bench import bench
from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict
from regraft.workflow.bundle import bundle

SERVER = "mlserver==1.7.1"
_START_S = 90.0


@pytest.fixture(scope="module")
def server_python() -> Path:
    """MLServer in an environment of its own, made once; what runs the model comes from the tests' own."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "regraft" / "environments" / SERVER.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", SERVER], check=True, timeout=240)
        (next(folder.glob("lib/*/site-packages")) / "zz_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (folder / ".ready").touch()
    return python


@pytest.fixture
def served(server_python: Path, asset: Callable[..., Path], tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The source, and the reference of the model behind a server that the README's command started."""
    source = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_16k_op15.onnx"
    bundle(source, layout="plain", out=tmp_path / "bundle", name="vad")
    assert "mlserver start ." in (tmp_path / "bundle/README.md").read_text()
    ports = [_free_port() for _ in range(3)]
    names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")
    told = {f"MLSERVER_{name}": str(port) for name, port in zip(names, ports, strict=True)}
    settings = {**os.environ, **told, "MLSERVER_PARALLEL_WORKERS": "0", "MLSERVER_HOST": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as log:
        command = [server_python.parent / "mlserver", "start", "."]
        process = subprocess.Popen(command, cwd=tmp_path / "bundle", env=settings, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{ports[0]}/v2/models/vad/ready", process, tmp_path / "log")
        yield source, f"oip+http://127.0.0.1:{ports[0]}/vad"
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.mark.slow
@pytest.mark.network
def test_the_served_model_is_the_same_network(served: tuple[Path, str], asset: Callable[..., Path]) -> None:
    source, address = served
    evidence = verify(source, address)
    assert evidence.verdict is Verdict.PASS, evidence.summary
    tried = next(one.value for one in evidence.measurements if one.name == "feeds_tried")
    assert tried is not None
    assert tried >= 5
    other = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_half.onnx"
    assert verify(other, address).verdict is not Verdict.PASS
    arrays = {
        "input": np.zeros((1, 576), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    speed = bench([source, address], feeds=arrays, runs=5, starts=1)
    (error,) = [one for one in speed.measurements if one.name == "error_in_floors"]
    assert (error.of["package"], error.of["runtime"]) == (address, "served")
    assert error.value <= error.of["benign_up_to"]  # type: ignore[operator]
    own = [one.of["package"] for one in speed.measurements if one.name == "peak_memory"]
    assert own == [source.name], "the client's memory is not the server's"
