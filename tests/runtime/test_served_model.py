"""What a client of the Open Inference Protocol makes of servers that are absent, foreign or wrong.

A real server stands behind tests/deployment/bundle/test_served.py; these say what none of those would.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from regraft.errors import BadFeeds, NetworkFailure, NotFound, Offline, ReferenceSyntaxError, Unsupported
from regraft.package.reference import parse_reference
from regraft.runtime.served_model import ServedModel, served_model

DOUBLER = {
    "name": "doubler",
    "platform": "none",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server that says this of its model `m`, and answers requests by a function; its reference."""
    servers = []

    def start(metadata: object, answer: Callable[[dict[str, Any]], object] | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, metadata) if self.path == "/v2/models/m" else self._send(404, {"error": "no"})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert answer is not None
                self._send(200, answer(request))

            def _send(self, status: int, value: object) -> None:
                content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"oip+http://127.0.0.1:{server.server_port}/m"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def opened(address: str) -> ServedModel:
    return served_model(parse_reference(address), offline=False)


def doubled(request: dict[str, Any]) -> object:
    (one,) = request["inputs"]
    return {"outputs": [{**one, "name": "y", "data": [2 * value for value in one["data"]]}]}


def test_numbers_arrive_bit_by_bit(serve: Callable[..., str]) -> None:
    model = opened(serve(DOUBLER, doubled))
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) * np.float32(1e-30)
    answer = model({"x": x})["y"]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, 2 * x)  # doubling is exact
    assert model.effective_precision == "float32"
    with pytest.raises(BadFeeds, match="float64, the model wants float32"):
        model({"x": x.astype(np.float64)})
    with pytest.raises(Unsupported, match="no intermediate tensors"):
        model.trace({"x": x})


@pytest.mark.parametrize(
    ("metadata", "error", "why"),
    [
        ("<html>hello</html>", NetworkFailure, "not the Open Inference Protocol"),
        ({"name": "m"}, Unsupported, "does not say what the model takes"),
    ],
)
def test_what_is_no_such_server_is_told(serve: Callable[..., str], metadata: object, error: Any, why: str) -> None:
    with pytest.raises(error, match=why):
        opened(serve(metadata))


def test_a_type_that_nobody_knows_is_told(serve: Callable[..., str]) -> None:
    strange = {**DOUBLER, "inputs": [{"name": "x", "datatype": "FP4", "shape": [2]}]}
    with pytest.raises(Unsupported, match="unknown type 'FP4'"):
        _ = opened(serve(strange)).signature


@pytest.mark.parametrize(
    "outputs",
    [
        [{"name": "y", "datatype": "FP32", "shape": [3, 2], "data": [1.0, 2.0]}],
        [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": ["one", "two"]}],
        [{"name": "y", "datatype": "FP32", "shape": [1, 2]}],
    ],
)
def test_an_answer_that_is_not_of_its_shape_is_told(serve: Callable[..., str], outputs: object) -> None:
    model = opened(serve(DOUBLER, lambda _: {"outputs": outputs}))
    with pytest.raises(NetworkFailure, match="not of its shape"):
        model({"x": np.zeros((1, 2), np.float32)})


def test_an_absent_model_or_network_is_told(serve: Callable[..., str]) -> None:
    address = serve(DOUBLER)
    with pytest.raises(NotFound, match="no such model"):
        opened(address.removesuffix("m") + "other")
    with pytest.raises(ReferenceSyntaxError) as caught:
        opened(address.removesuffix("/m"))
    assert caught.value.hint.endswith("/NAME")
    with pytest.raises(Offline):
        served_model(parse_reference(address), offline=True)
