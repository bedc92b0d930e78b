"""Over HTTP only the bytes that matter are asked for: the directory of an archive, headers, pickles."""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regraft.record.evidence import DigestKind, Verdict
from regraft.trust.scan import scan

BLOCK = 64 << 10
"""What the reader over HTTP asks for at once."""


class Served:
    """A folder behind an address, with what was asked of it: the offsets of first and last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ranges: list[tuple[int, int]] = []
        self.url = ""

    @property
    def received(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = (served.folder / self.path.lstrip("/")).read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (
                (int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)) if wanted else (0, len(body) - 1)
            )
            served.ranges.append((first, last))
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            self.end_headers()
            self.wfile.write(body[first : last + 1])

    return Handler


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Served]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    served = Served(tmp_path)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield served
    http.shutdown()
    http.server_close()


def _metadata(path: Path) -> list[tuple[int, int]]:
    """(begin, end) of what says something about a zip: local headers, its small members, the directory.

    And both ends, of which a partial digest is made.
    """
    size = path.stat().st_size
    found = [(0, BLOCK), (size - BLOCK, size)]
    with zipfile.ZipFile(path) as archive:
        found.append((archive.start_dir, size))
        for info in archive.infolist():
            size = 0 if "/data/" in info.filename else info.compress_size
            found.append((info.header_offset, info.header_offset + 30 + len(info.filename) + 64 + size))
    return found


def test_of_a_torch_file_no_weight_is_fetched(served):
    path = served.folder / "model.pt"
    torch.save({f"layer.{number}": torch.ones(1 << 19) for number in range(6)}, path)  # 2 MiB each
    evidence = scan(f"{served.url}/model.pt", compute=False)
    assert evidence.verdict is Verdict.PASS
    assert evidence.subject[0].digest is DigestKind.PARTIAL
    spans = _metadata(path)
    for first, last in served.ranges:
        for block in range(first - first % BLOCK, last + 1, BLOCK):
            assert any(begin < block + BLOCK and end > block for begin, end in spans), f"{first}-{last}"
    assert served.received < path.stat().st_size / 12
    measured = {m.name: m.value for m in evidence.measurements}
    assert measured["bytes_read"] < 300_000  # two fingerprints of 64 KiB, the directory, the pickle, headers


def test_a_danger_far_behind_is_found_without_what_lies_before(served):
    path = served.folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", "3\n")
        for number in range(4):
            archive.writestr(f"archive/data/{number}", bytes(1 << 21))
        archive.writestr("archive/data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    evidence = scan(f"{served.url}/model.pt", compute=False)
    assert evidence.verdict is Verdict.FAIL
    assert "os.system" in evidence.summary
    assert served.received < 10 * BLOCK, served.ranges


def test_of_safetensors_only_the_header_is_fetched(served):
    path = served.folder / "model.safetensors"
    save_file({f"layer.{number}": torch.ones(1 << 19) for number in range(6)}, path)
    assert scan(f"{served.url}/model.safetensors", compute=False).verdict is Verdict.PASS
    assert served.received <= 3 * BLOCK
