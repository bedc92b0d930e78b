"""The index: always as current as the files, and never missed when it is gone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql

from regraft.record import index as index_module
from regraft.record.digest import Digest
from regraft.record.evidence import Evidence, Finding, Severity, Verdict
from regraft.record.index import Index, reindex
from regraft.record.store import Store

Make = Callable[..., Evidence]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def index(store: Store) -> Iterator[Index]:
    opened = Index(store)
    yield opened
    opened.close()


def test_every_question(store: Store, index: Index, make_evidence: Make, digest: Callable[[str], Digest]) -> None:
    bad = Finding("RGS-PKL-001", Severity.CRITICAL, "m")
    scan = make_evidence(
        "scan", verdict=Verdict.FAIL, findings=(bad, bad), started="2026-01-01T00:00:00.000Z", summary="NUL \0 here"
    )
    bench = make_evidence("bench", started="2026-02-01T00:00:00.000Z")
    other = make_evidence("scan", "other", started="2026-03-01T00:00:00.000Z")
    undated = make_evidence("doctor", subject=(), started="once")
    by_name = {name: store.put_evidence(e) for name, e in {"s": scan, "b": bench, "o": other, "u": undated}.items()}

    def ask(**conditions: object) -> str:
        names = {value: key for key, value in by_name.items()}
        return "".join(names[entry.digest] for entry in index.find(**conditions))  # type: ignore[arg-type]

    assert ask() == "obsu"
    assert ask(package=digest("model")) == "bs"
    assert ask(kind="scan") == "os"
    assert ask(verdict=Verdict.FAIL) == "s"
    assert ask(rule="RGS-PKL-001") == "s"
    assert ask(since=datetime(2026, 2, 1, tzinfo=UTC)) == "ob"
    assert ask(until=datetime(2026, 2, 1, tzinfo=UTC)) == "bs"
    assert ask(kind="scan", package=digest("model"), verdict=Verdict.PASS) == ""
    assert ask(limit=1) == "o"
    assert index.rules() == [("RGS-PKL-001", Severity.CRITICAL, 1)]
    assert [record.evidence for record in index.records(digest("model"))] == [bench, scan]
    entry = index.find(kind="doctor")[0]
    assert (entry.package, entry.name, entry.outcome) == (None, None, "safe")


def test_it_follows_the_files(store: Store, index: Index, make_evidence: Make) -> None:
    assert index.find() == []
    digests = []
    for number in range(30):
        digests.append(store.put_evidence(make_evidence(summary=str(number))))
        assert {entry.digest for entry in index.find()} == set(digests)
    gone = digests.pop()
    (store.root / "evidence/sha256" / gone[:2] / f"{gone}.json").unlink()
    assert {entry.digest for entry in index.find()} == set(digests)


def test_settled_folders_are_not_listed_again(
    store: Store, index: Index, make_evidence: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put_evidence(make_evidence())
    folder = store.root / "evidence/sha256" / digest[:2]
    os.utime(folder, (time.time() - 60, time.time() - 60))
    assert len(index.find()) == 1
    monkeypatch.setattr(index_module, "digests_in", lambda path: pytest.fail("listed again"))
    assert len(index.find()) == 1


@pytest.mark.parametrize("how", ["missing", "garbage", "truncated", "no tables", "half"])
def test_a_broken_database_is_rebuilt(how: str, store: Store, make_evidence: Make) -> None:
    digests = {store.put_evidence(make_evidence(summary=str(number) * 500)) for number in range(40)}
    first = Index(store)
    assert len(first.find()) == 40
    first.close()
    path = store.root / "index.sqlite"
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "garbage":
        path.write_bytes(b"not a database at all" * 1000)
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "half":
        path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE regraft_evidence_1")
            connection.execute("CREATE TABLE regraft_evidence_1 (x)")
        connection.close()
    again = Index(store)
    assert {entry.digest for entry in again.find()} == digests
    again.close()
    assert reindex(store) == 40


def test_damage_is_told_until_it_is_mended(store: Store, index: Index, make_evidence: Make) -> None:
    evidence = make_evidence()
    digest = store.put_evidence(evidence)
    path = store.root / "evidence/sha256" / digest[:2] / f"{digest}.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert index.find() == []
    (message,) = index.damage()
    assert str(path) in message
    store.put_evidence(evidence)
    assert [entry.digest for entry in index.find()] == [digest]
    assert index.damage() == []


def test_a_store_that_does_not_exist_has_an_empty_index_and_is_not_made(store: Store, index: Index) -> None:
    assert index.find() == []
    assert reindex(store) == 0
    assert not store.root.exists()


def test_a_store_that_may_not_be_written_is_indexed_in_memory(make_evidence: Make) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        store = Store(Path(name) / "s")
        digest = store.put_evidence(make_evidence())
        store.root.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            index = Index(store)
            assert [entry.digest for entry in index.find()] == [digest]
            index.close()
        finally:
            if root:
                os.seteuid(0)
        assert not (store.root / "index.sqlite").exists()
        store.root.chmod(0o755)


def test_several_processes_ask_while_one_writes(store: Store, make_evidence: Make) -> None:
    code = (
        "import sys; from pathlib import Path; from regraft.record.store import Store\n"
        "from regraft.record.index import Index\n"
        "i = Index(Store(Path(sys.argv[1])))\n"
        "n = 0\n"
        "while n < 60: n = len(i.find())\n"
        "print(n)"
    )
    store.put_evidence(make_evidence(summary="first"))
    command = [sys.executable, "-c", code, str(store.root)]
    askers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for number in range(59):
        store.put_evidence(make_evidence(summary=str(number)))
        time.sleep(0.01)
    outputs = [asker.communicate(timeout=60) for asker in askers]
    assert [asker.returncode for asker in askers] == [0, 0, 0]
    assert [out.strip() for out, _ in outputs] == ["60"] * 3


def test_a_database_by_url(store: Store, tmp_path: Path, make_evidence: Make) -> None:
    store.put_evidence(make_evidence())
    assert reindex(store, url=f"sqlite:///{tmp_path / 'elsewhere.db'}") == 1
    assert (tmp_path / "elsewhere.db").exists()
    assert not (store.root / "index.sqlite").exists()


def test_the_statements_are_those_of_postgresql_too() -> None:
    dialect = postgresql.dialect()
    for table in index_module._metadata.sorted_tables:
        assert "CREATE TABLE IF NOT EXISTS" in str(
            sql.schema.CreateTable(table, if_not_exists=True).compile(dialect=dialect)
        )
        insert = postgresql.insert(table).on_conflict_do_nothing()
        assert "ON CONFLICT DO NOTHING" in str(insert.compile(dialect=dialect))
