"""The store from outside: what is put in comes out, and what is no store is left alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regraft.errors import AccessDenied, DigestMismatch, NetworkFailure, NotFound, StoreError, StoreVersionError
from regraft.record.digest import Digest
from regraft.record.evidence import Evidence
from regraft.record.statement import statement_from_evidence
from regraft.record.store import Store, open_store

_KEY = Digest("cd" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "a" / "store")


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Run as nobody where the tests run as root: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that nobody can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_evidence_comes_back(store: Store, make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence()
    digest = store.put_evidence(evidence)
    assert digest == evidence.digest
    assert store.evidence(digest) == evidence
    assert [(record.digest, record.evidence) for record in store.all_evidence()] == [(digest, evidence)]
    path = store.root / "evidence/sha256" / digest[:2] / f"{digest}.json"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert path.read_bytes() == store.statement(digest) == statement_from_evidence(evidence)
    assert store.put_evidence(evidence) == digest
    assert len(list(store.evidence_digests())) == 1


def test_statements_of_others_are_kept_as_they_are(store: Store, make_evidence: Callable[..., Evidence]) -> None:
    spaced = statement_from_evidence(make_evidence()).replace(b'"predicateType":', b'"predicateType" : ')
    digest = store.put_statement(spaced)
    assert store.statement(digest) == spaced
    assert store.evidence(digest) == make_evidence(
        started=store.evidence(digest).started, seconds=store.evidence(digest).seconds
    )
    for wrong in (b"", b"{}", b"[]", b"\xff", b'{"_type":"x"}'):
        with pytest.raises(ValueError, match=r"."):
            store.put_statement(wrong)
    assert len(list(store.evidence_digests())) == 1


def test_reading_a_store_that_does_not_exist_finds_nothing_and_makes_nothing(store: Store) -> None:
    assert list(store.all_evidence()) == []
    assert store.step(_KEY) is None
    assert store.blob_path(_KEY) is None
    assert store.sweep() == 0
    with pytest.raises(NotFound):
        store.evidence(_KEY)
    with pytest.raises(NotFound):
        store.set_step(_KEY, _KEY)
    assert not store.root.parent.exists()


def test_changed_evidence_is_named_and_not_believed(store: Store, make_evidence: Callable[..., Evidence]) -> None:
    good = store.put_evidence(make_evidence("inspect"))
    bad = store.put_evidence(make_evidence("scan"))
    path = store.root / "evidence/sha256" / bad[:2] / f"{bad}.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"pass"', b'"fail"'))
    with pytest.raises(DigestMismatch) as caught:
        store.evidence(bad)
    assert caught.value.where == str(path)
    assert f"rm -f '{path}'" in caught.value.hint
    with pytest.raises(DigestMismatch):
        list(store.all_evidence())
    damage: list[Exception] = []
    assert [record.digest for record in store.all_evidence(on_damage=damage.append)] == [good]
    assert len(damage) == 1


def test_writing_again_mends_a_changed_file(store: Store, make_evidence: Callable[..., Evidence]) -> None:
    evidence = make_evidence()
    digest, blob = store.put_evidence(evidence), store.put_blob([b"weights"])
    for path in (store.root / "evidence/sha256" / digest[:2] / f"{digest}.json", store.blob_path(blob)):
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(b"garbage")
    assert store.put_evidence(evidence) == digest
    assert store.evidence(digest) == evidence
    store.put_blob([b"weights"])
    assert store.blob_path(blob).read_bytes() == b"weights"  # type: ignore[union-attr]


@pytest.mark.parametrize("chunks", [[], [b""], [b"abc"], [b"a", b"", memoryview(b"bc")], [b"x" * 3_000_000]])
def test_blobs_come_back_read_only(chunks: list[bytes], store: Store) -> None:
    digest = store.put_blob(chunks)
    path = store.blob_path(digest)
    assert path is not None
    assert path.read_bytes() == b"".join(chunks)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0


def test_a_file_is_copied_never_linked(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(os.urandom(2_500_000))
    content = source.read_bytes()
    digest = store.put_blob_file(source)
    path = store.blob_path(digest)
    assert path is not None
    assert (path.stat().st_ino, path.stat().st_nlink) != (source.stat().st_ino, 2)
    source.write_bytes(b"changed afterwards")
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_an_error_of_the_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.put_blob_file(tmp_path / "absent")
    with pytest.raises((NotFound, AccessDenied)):
        store.put_blob_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound, match="regular"):
        store.put_blob_file(tmp_path / "pipe")


def test_an_unexpected_digest_keeps_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    with pytest.raises(DigestMismatch):
        store.put_blob([b"abc"], expected=_KEY)
    with pytest.raises(DigestMismatch):
        store.put_blob_file(tmp_path / "f", expected=_KEY)
    assert [path for path in (store.root / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("error", [NetworkFailure("broke off"), KeyboardInterrupt(), ConnectionResetError("reset")])
def test_a_stream_that_breaks_off_passes_its_error_and_keeps_nothing(error: BaseException, store: Store) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise error

    with pytest.raises(type(error)):
        store.put_blob(chunks())
    assert [path for path in (store.root / "blobs").rglob("*") if path.is_file()] == []


def test_steps_are_remembered_and_replaced(store: Store, make_evidence: Callable[..., Evidence]) -> None:
    one, two = store.put_evidence(make_evidence("scan")), store.put_evidence(make_evidence("inspect"))
    store.set_step(_KEY, one)
    assert store.step(_KEY) == one
    store.set_step(_KEY, two)
    assert Store(store.root).step(_KEY) == two
    with pytest.raises(NotFound):
        store.set_step(_KEY, Digest("00" * 32))
    assert store.step(_KEY) == two
    (store.root / "steps" / _KEY).chmod(0o644)
    (store.root / "steps" / _KEY).write_bytes(b"\xff")
    assert store.step(_KEY) is None


def test_digests_cannot_leave_the_store(store: Store) -> None:
    for text in ("../../etc/passwd", "", "a/" * 32, "0" * 63 + "/"):
        with pytest.raises(ValueError, match="not a sha256"):
            store.blob_path(Digest(text))
        with pytest.raises(ValueError, match="not a sha256"):
            store.step(Digest(text))


def test_a_foreign_folder_is_left_alone(tmp_path: Path, make_evidence: Callable[..., Evidence]) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    for use in (lambda s: s.put_evidence(make_evidence()), lambda s: list(s.all_evidence())):
        with pytest.raises(StoreError, match="not a Regraft store") as caught:
            use(Store(tmp_path))
        assert caught.value.hint
    (tmp_path / "version").write_text("3.2.1\n")
    with pytest.raises(StoreError, match="version file"):
        Store(tmp_path).put_blob([b"x"])
    assert sorted(os.listdir(tmp_path)) == ["thesis.tex", "version"]


def test_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert Store(tmp_path).put_blob([b"x"])


@pytest.mark.parametrize("number", ["2", "99999999999999999999"])
def test_a_store_of_a_newer_version_is_not_touched(number: str, store: Store) -> None:
    blob = store.put_blob([b"x"])
    (store.root / "version").chmod(0o644)
    (store.root / "version").write_text(f"regraft-store {number}\n")
    newer = Store(store.root)
    for use in (lambda: newer.put_blob([b"y"]), lambda: newer.blob_path(blob), lambda: newer.step(_KEY)):
        with pytest.raises(StoreVersionError) as caught:
            use()
        assert caught.value.where == str(store.root)
        assert "upgrade" in caught.value.hint


def test_a_file_in_the_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="a file stands"):
            Store(root).put_blob([b"x"])


def test_a_store_without_leave_to_write_can_still_be_read(
    open_folder: Path, make_evidence: Callable[..., Evidence]
) -> None:
    evidence = make_evidence()
    digest = Store(open_folder / "s").put_evidence(evidence)
    for path in [open_folder / "s", *(open_folder / "s").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with unprivileged():
        store = Store(open_folder / "s")
        assert store.evidence(digest) == evidence
        with pytest.raises(StoreError, match="may not be accessed") as caught:
            store.put_blob([b"x"])
        assert "--store" in caught.value.hint
        with pytest.raises(StoreError, match="may not be accessed"):
            Store(open_folder / "new").put_blob([b"x"])
    (open_folder / "s").chmod(0o000)
    with unprivileged(), pytest.raises(StoreError, match="may not be accessed"):
        Store(open_folder / "s").evidence(digest)
    (open_folder / "s").chmod(0o755)


def test_what_the_umask_withholds_stays_withheld(store: Store) -> None:
    before = os.umask(0o077)
    try:
        path = store.blob_path(store.put_blob([b"secret weights"]))
    finally:
        os.umask(before)
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert open_store(tmp_path / "x").root == tmp_path / "x"
    monkeypatch.setenv("REGRAFT_STORE", str(tmp_path / "y"))
    assert open_store().root == tmp_path / "y"
    monkeypatch.setenv("REGRAFT_STORE", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert open_store().root.name == "regraft"


def test_recording_does_not_import_the_database(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from regraft.record.store import Store\n"
        "from regraft.record.evidence import Draft\n"
        "s = Store(Path(sys.argv[1])); s.put_evidence(Draft('scan').finish(outcome='o', summary='s'))\n"
        "print([m for m in ('sqlalchemy', 'sqlite3', 'yaml', 'platformdirs', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
