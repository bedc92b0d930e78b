"""The store and the disk when they refuse, and commands that are stopped anywhere: what was reported is kept whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

CALL = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0aecho pwned\x85R."
"""os.system("echo pwned"): looked at, never run."""
IS_ROOT = os.geteuid() == 0
UNPRIVILEGED: tuple[str, ...] = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if IS_ROOT else ()
"""In front of a command: root without the power to pass over file modes."""
DRAW = random.Random(20)

needs_unprivileged = pytest.mark.skipif(
    IS_ROOT and shutil.which("setpriv") is None, reason="root passes over file modes, and there is no setpriv"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(CALL)
    return path


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = IS_ROOT and shutil.which("mount") is not None
    if (
        not mounted
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    with contextlib.suppress(OSError), (place / "filler").open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()


def test_a_full_disk_under_the_store(regraft: Any, small_disk: Path, model: Path) -> None:
    store = small_disk / "store"
    regraft("scan", model, store=store).assert_told(1)
    before = listing(store)
    fill(small_disk)
    ended = regraft("scan", model, "--json", store=store)
    ended.assert_told(2)
    assert ended.record["error"]["code"] == "store"
    assert listing(store) == before
    (small_disk / "filler").unlink()
    regraft("scan", model, store=store).assert_told(1)


def test_a_full_disk_under_the_output(regraft: Any, small_disk: Path, model: Path) -> None:
    target = small_disk / "report.html"
    target.write_text("what was there before")
    fill(small_disk)
    regraft("scan", model, "--format", "html", "-o", target).assert_told(2)
    assert target.read_text() == "what was there before"
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "report.html"]


def limited(size_bytes: int) -> tuple[str, ...]:
    return ("sh", "-c", f'ulimit -f {size_bytes // 512}; exec "$@"', "sh")


def test_files_that_may_not_grow(regraft: Any, tmp_path: Path, model: Path) -> None:
    store, target = tmp_path / "store", tmp_path / "out.html"
    regraft("scan", model, store=store).assert_told(1)
    before = listing(store)
    ended = regraft("scan", model, "--json", store=store, under=limited(512))
    ended.assert_told(2)
    assert ended.record["error"]["code"] == "store"
    assert listing(store) == before
    regraft("scan", model, "--format", "html", "-o", target, store=store, under=limited(8192)).assert_told(2)
    assert not target.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"store", "model.pkl"}


@needs_unprivileged
def test_a_store_that_may_only_be_read(regraft: Any, tmp_path: Path, model: Path) -> None:
    store = tmp_path / "store"
    regraft("scan", model, store=store).assert_told(1)
    before = listing(store)
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        for verb in ("scan", "inspect"):
            ended = regraft(verb, model, "--json", store=store, under=UNPRIVILEGED)
            ended.assert_told(2)
            assert ended.record["error"]["code"] == "store"
            assert ended.record["error"]["hint"]
        regraft("scan", model, under=UNPRIVILEGED).assert_told(1)
        assert listing(store) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


@needs_unprivileged
def test_what_may_not_be_read_is_named(regraft: Any, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    (folder / "closed").mkdir(parents=True)
    (folder / "secret.pkl").write_bytes(CALL)
    (folder / "note.txt").write_text("hello\n")
    (folder / "secret.pkl").chmod(0)
    (folder / "closed").chmod(0)
    try:
        ended = regraft("scan", folder, "--json", under=UNPRIVILEGED)
        ended.assert_told(3)
        assert {"secret.pkl", "closed"} <= {finding["where"].get("file") for finding in ended.record["findings"]}
        regraft("inspect", folder, under=UNPRIVILEGED).assert_told(3)
        regraft("scan", folder / "secret.pkl", under=UNPRIVILEGED).assert_told(2)
        regraft("scan", folder / "closed", under=UNPRIVILEGED).assert_told(2)
    finally:
        (folder / "closed").chmod(0o755)


def test_a_store_of_a_newer_version(regraft: Any, tmp_path: Path, model: Path) -> None:
    store = tmp_path / "store"
    regraft("scan", model, store=store).assert_told(1)
    version = store / "version"
    version.chmod(0o644)
    version.write_text(version.read_text().split()[0] + " 999\n")
    before = listing(store)
    for arguments in (("scan", model), ("inspect", model), ("fetch", model), ("check", model, "--policy", model)):
        ended = regraft(*arguments, "--json", store=store)
        ended.assert_told(2)
    assert ended.record["error"]["code"] in {"store-version", "policy"}
    assert listing(store) == before


@pytest.mark.parametrize("content", [b"", b"other-store 1\n", b"\xff\xfe", b"regraft-store \n", b"regraft-store 1 1\n"])
def test_a_version_file_that_is_none(regraft: Any, tmp_path: Path, model: Path, content: bytes) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "version").write_bytes(content)
    regraft("scan", model, store=tmp_path / "store").assert_told(2)
    assert listing(tmp_path / "store") == {"version": content}


def test_a_folder_that_is_no_store_is_left_alone(regraft: Any, tmp_path: Path, model: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "diary.txt").write_text("dear diary\n")
    regraft("scan", model, store=home).assert_told(2)
    assert listing(home) == {"diary.txt": b"dear diary\n"}


def test_output_that_cannot_be_written(regraft: Any, tmp_path: Path, model: Path) -> None:
    for target in (tmp_path / "no" / "such" / "out.json", tmp_path, Path("/dev/full/x"), Path("/proc/out.json")):
        regraft("scan", model, "--json", "-o", target).assert_told(2)
    assert {path.name for path in tmp_path.iterdir()} == {"model.pkl"}


# stopped


class Slow:
    """A server that sends a wheel a few bytes at a time, so that a command can be stopped while it reads."""

    def __init__(self, body: bytes, pause_s: float) -> None:
        digest = hashlib.sha256(body).hexdigest()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_page = self.path.startswith("/simple/")
                sent = page if is_page else body
                self.send_response(200)
                self.send_header(
                    "Content-Type", "application/vnd.pypi.simple.v1+json" if is_page else "application/zip"
                )
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    for at in range(0, len(sent), 16 << 10):
                        self.wfile.write(sent[at : at + (16 << 10)])
                        time.sleep(0 if is_page else pause_s)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        name = "thing-1.0-py3-none-any.whl"
        file = {"filename": name, "url": f"{url}/{name}", "hashes": {"sha256": digest}}
        page = json.dumps({"meta": {"api-version": "1.1"}, "name": "thing", "files": [file]}).encode()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.env = {"PIP_INDEX_URL": f"{url}/simple", "no_proxy": "*", "NO_PROXY": "*"}


@pytest.fixture
def slow() -> Iterator[Slow]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("thing/weights.bin", random.Random(1).randbytes(400_000))
        archive.writestr("thing/bad.pkl", CALL)
    server = Slow(buffer.getvalue(), pause_s=0.02)
    yield server
    server.server.shutdown()
    server.server.server_close()


def stopped(command: Sequence[str], with_: int, after_s: float, env: dict[str, str]) -> tuple[int, str]:
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
    time.sleep(after_s)
    child.send_signal(with_)
    try:
        _, stderr = child.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        pytest.fail(f"{command} did not stop")
    return child.returncode, stderr


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Something that takes a second to scan and to inspect."""
    folder = tmp_path / "large"
    folder.mkdir()
    draw = random.Random(2)
    for number in range(150):
        (folder / f"{number}.py").write_text(f"import os\n\ndef f{number}(x):\n    return x + {draw.random()}\n" * 40)
        (folder / f"{number}.pkl").write_bytes(b"\x80\x04" + b"".join(b"K%c0" % (n % 250) for n in range(4000)) + b"N.")
    with (folder / "sparse.bin").open("wb") as file:
        file.truncate(256 << 20)
    return folder


@pytest.mark.slow
def test_ctrl_c_at_any_moment(
    command: Sequence[str], store_is_whole: Callable[..., None], large: Path, slow: Slow, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    env = {**os.environ, "REGRAFT_STORE": str(store), "NO_COLOR": "1", **slow.env}
    seen = set()
    for number in range(20):
        subject = (("scan", str(large)), ("inspect", str(large)), ("fetch", "pypi://thing==1.0"))[number % 3]
        code, stderr = stopped([*command, *subject], signal.SIGINT, DRAW.uniform(0.4, 1.6), env)
        if "Could not import runpy" in stderr:  # the interpreter had not come as far as Regraft
            continue
        seen.add(code)
        assert code in (0, 1, 3, 130), stderr
        assert "Traceback" not in stderr, stderr
        assert len(stderr.splitlines()) <= 3, stderr
        store_is_whole(store)
        assert not [path for path in store.rglob("*.json") if not path.read_bytes()]
    assert 130 in seen


def test_killed_and_begun_again(
    command: Sequence[str],
    store_is_whole: Callable[..., None],
    regraft: Any,
    large: Path,
    slow: Slow,
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    env = {**os.environ, "REGRAFT_STORE": str(store), "NO_COLOR": "1", **slow.env}
    for number in range(8):
        subject = (("fetch", "pypi://thing==1.0"), ("scan", str(large)))[number % 2]
        code, _ = stopped([*command, *subject], signal.SIGKILL, DRAW.uniform(0.3, 1.2), env)
        assert code in (-signal.SIGKILL, 0, 1, 3)
        assert not [path for path in (store / "evidence").rglob("*.json") if not path.read_bytes()]
    for path in store.rglob(".tmp-*"):
        path.unlink()  # the store itself removes them once they are a day old
    regraft("fetch", "pypi://thing==1.0", store=store, env=slow.env).assert_told(0)
    regraft("scan", "pypi://thing==1.0", "--offline", store=store, env=slow.env).assert_told(1)
    store_is_whole(store, was_killed=True)


def test_ctrl_c_keeps_the_subjects_that_were_finished(
    command: Sequence[str], large: Path, model: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    env = {**os.environ, "REGRAFT_STORE": str(store)}
    child = subprocess.Popen(
        [*command, "scan", str(model), str(large)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env
    )
    deadline = time.monotonic() + 30
    while not list(store.rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert len(list((store / "evidence").rglob("*.json"))) == 1


def test_no_descriptors_left(regraft: Any, large: Path) -> None:
    soft = min(40, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    regraft("scan", large, under=("sh", "-c", f'ulimit -n {soft}; exec "$@"', "sh")).assert_told(0, 2, 3)
