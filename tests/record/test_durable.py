"""Killed, starved and hindered writers: what was reported is there, and nothing is there by halves."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.errors import StoreError
from regraft.record.digest import Digest
from regraft.record.evidence import Evidence
from regraft.record.store import Store

_WRITERS = Path(__file__).with_name("killed_writers.py")
_KILLS = 1000


def content_files(root: Path) -> list[Path]:
    """Files that a reader of the store can see."""
    files = [path for area in ("evidence", "blobs") for path in (root / area).rglob("*") if path.is_file()]
    return [path for path in files if not path.name.startswith(".tmp-")]


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob(".tmp-*") if path.is_file()]


def assert_whole(root: Path) -> None:
    for path in content_files(root):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.removesuffix(".json"), path


def test_a_thousand_killed_writers_lose_nothing_that_they_reported(tmp_path: Path) -> None:
    command = [sys.executable, str(_WRITERS), str(tmp_path), str(_KILLS), "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    reports = [line.split() for line in done.stdout.splitlines()]
    kinds = Counter(kind for _, kind, _ in reports)
    assert set(kinds) == {"evidence", "blob", "step"}, done.stdout[-500:]
    assert min(kinds.values()) > _KILLS / 4, "the writers died before they wrote anything"
    stores = {folder.name: Store(folder) for folder in tmp_path.iterdir()}
    for folder, kind, digest in set(map(tuple, reports)):
        store = stores[folder]
        if kind == "evidence":
            assert store.evidence(Digest(digest)).kind == "scan"
        elif kind == "step":
            assert store.step(Digest(digest)) is not None
        else:
            assert store.blob_path(Digest(digest)) is not None
    for store in stores.values():
        assert_whole(store.root)
    assert any(leftovers(store.root) for store in stores.values()), "no writer was hit while it wrote"


def test_what_killed_writers_left_is_removed_after_a_day(
    tmp_path: Path, make_evidence: Callable[..., Evidence]
) -> None:
    store = Store(tmp_path / "s")
    digest = store.put_evidence(make_evidence())
    blob = store.put_blob([b"x"])
    folders = [store.root, store.root / "steps", store.blob_path(blob).parent]  # type: ignore[union-attr]
    folders.append(next((store.root / "evidence/sha256").iterdir()))
    store.set_step(digest, digest)
    for number, folder in enumerate(folders):
        (folder / f".tmp-{number}-old").write_bytes(b"half")
        os.utime(folder / f".tmp-{number}-old", (0, time.time() - 25 * 3600))
        (folder / f".tmp-{number}-new").write_bytes(b"half")
    before = {path.name for path in leftovers(store.root)}
    assert len(before) == 8
    assert store.sweep() == 4
    assert {path.name for path in leftovers(store.root)} == {name for name in before if name.endswith("new")}
    assert list(store.all_evidence())
    assert store.sweep() == 0


def test_four_writers_of_the_same_records_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2]); import killed_writers as k, msgspec\n"
        "from pathlib import Path; e = msgspec.convert(msgspec.json.decode(sys.stdin.buffer.read()), k.Evidence)\n"
        "s = k.Store(Path(sys.argv[1])); time.sleep(max(0, float(sys.argv[3]) - time.time()))\n"
        "for n in range(150):\n"
        "    d = s.put_evidence(msgspec.structs.replace(e, summary=str(n))); s.set_step(k.digest_bytes(b'%d' % n), d)\n"
        "    print(d, s.put_blob([b'%d' % n] * 100))"
    )
    sys.path.insert(0, str(_WRITERS.parent))
    try:
        import killed_writers
    finally:
        sys.path.pop(0)
    start = str(time.time() + 1.0)
    command = [sys.executable, "-c", code, str(tmp_path / "s"), str(_WRITERS.parent), start]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    outputs = []
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(killed_writers.template_evidence.to_json())
        writer.stdin.close()
    for writer in writers:
        assert writer.stdout is not None
        outputs.append(writer.stdout.read())
        writer.stdout.close()
        assert writer.wait() == 0
    assert len(set(outputs)) == 1
    store = Store(tmp_path / "s")
    assert sorted(record.evidence.summary for record in store.all_evidence()) == sorted(map(str, range(150)))
    assert len(list((tmp_path / "s/steps").iterdir())) == 150
    assert_whole(store.root)
    assert not leftovers(store.root)


class _Fails:
    """Lets `count` calls of a system call through, then fails once with an error number."""

    def __init__(self, real: Callable[..., Any], number: int, count: int) -> None:
        self.real, self.number, self.count = real, number, count

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.count -= 1
        if self.count == -1:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*arguments, **keywords)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "fchmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_any_refused_call_is_one_message_and_nothing_by_halves(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_evidence: Callable[..., Evidence]
) -> None:
    evidence = make_evidence()
    messages = 0
    for count in range(60):
        store = Store(tmp_path / f"{count}")
        fails = _Fails(getattr(os, call), number, count)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            error = _error_of(lambda store=store: [store.put_evidence(evidence), store.put_blob([b"a" * 9, b"b" * 9])])
        assert_whole(store.root)
        assert not leftovers(store.root)
        again = Store(store.root)
        assert again.evidence(again.put_evidence(evidence)) == evidence
        if error is not None:
            messages += 1
            assert error.hint
            assert error.where.startswith(str(tmp_path))
        if fails.count >= 0:
            break
    assert fails.count >= 0, "the call was made more often than was tried"
    assert messages >= 2


def _error_of(work: Callable[[], object]) -> StoreError | None:
    try:
        work()
    except StoreError as error:
        return error
    return None


def test_a_file_system_that_is_full_for_real(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes the kernel itself refuse the write half-way, as a full disk does.
    code = (
        "import resource, sys; from pathlib import Path; from regraft.record.store import Store\n"
        "from regraft.errors import StoreError\n"
        "s = Store(Path(sys.argv[1])); print(s.put_blob([b'small']))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try: s.put_blob([b'x' * 10000] * 20)\n"
        "except StoreError as e: print(e.what, '|', e.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    small, message = done.stdout.splitlines()
    assert "no file of this size" in message
    assert "--store" in message
    assert_whole(tmp_path / "s")
    assert [path.name for path in content_files(tmp_path / "s")] == [small]
    assert not leftovers(tmp_path / "s")
