"""A model behind a server: what is not seen from here is not said of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from regraft.deployment.bench import bench
from regraft.deployment.bench.messages import Start
from regraft.deployment.bench.passes import load_passes
from regraft.errors import Unsupported
from regraft.package.reference import parse_reference

_PORT = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
_METADATA = {"name": "m", "inputs": [_PORT], "outputs": [{**_PORT, "name": "y"}]}


class _Echo(BaseHTTPRequestHandler):
    """Answers a request with its own numbers."""

    def do_GET(self) -> None:
        self._send(_METADATA)

    def do_POST(self) -> None:
        (one,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        self._send({"outputs": [{**one, "name": "y"}]})

    def _send(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[str]:
    """Its reference."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"oip+http://127.0.0.1:{server.server_port}/m"
    server.shutdown()
    server.server_close()


def test_threads_memory_and_processor_of_a_server_are_not_known(served: str, tmp_path: Path) -> None:
    device = tmp_path / "board.yaml"
    device.write_text(
        "schema: regraft.device/1\nmachine: {compute: 900 GFLOP/s, memory: 900 GB/s}\nlatency_p50: 10 s\n"
    )
    evidence = bench(served, threads=(1, 2), batch_sizes=(1,), runs=8, starts=1, budget=device)
    (row,) = [one for one in evidence.measurements if one.name == "latency_p50"]
    assert "threads" not in row.of
    names = {one.name for one in evidence.measurements}
    assert not names & {"peak_memory", "cpu_time", "size_on_disk"}
    assert not [name for name in names if name.startswith("predicted")], "it may stand on any processor"
    assert evidence.outcome == "undecided"


def test_a_server_is_told_no_precision(served: str) -> None:
    with pytest.raises(Unsupported, match="cannot be told"):
        load_passes(Start(parse_reference(served), precision="bfloat16"))
