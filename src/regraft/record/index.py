"""The index: a database over the evidence files, for questions that would otherwise read them all.

It is derived. Recording evidence does not touch it: importing SQLAlchemy costs ten times as much as a short verb,
so the index catches up when somebody asks, and only the callers that ask import this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from regraft.errors import DigestMismatch, NotFound, RegraftError, StoreError
from regraft.record.digest import Digest
from regraft.record.durable import told
from regraft.record.evidence import Evidence, Record, Severity, Verdict
from regraft.record.store import Store, digests_in

_T = TypeVar("_T")

# The suffix is the version of the layout: a newer Regraft makes tables of its own and leaves these alone.
_metadata = sql.MetaData()
_evidence = sql.Table(
    "regraft_evidence_1",
    _metadata,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("folder", sql.String(2), nullable=False, index=True),
    sql.Column("package", sql.String(64), index=True),
    sql.Column("name", sql.Text),
    sql.Column("kind", sql.Text, nullable=False, index=True),
    sql.Column("verdict", sql.Text, nullable=False),
    sql.Column("outcome", sql.Text, nullable=False),
    sql.Column("summary", sql.Text, nullable=False),
    sql.Column("started", sql.Text, nullable=False),
    sql.Column("started_s", sql.Double, index=True),
)
_finding = sql.Table(
    "regraft_finding_1",
    _metadata,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("rule", sql.Text, primary_key=True, index=True),
    sql.Column("severity", sql.Text, primary_key=True),
    sql.Column("times", sql.Integer, nullable=False),
)
_damage = sql.Table(
    "regraft_damage_1",
    _metadata,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("folder", sql.String(2), nullable=False),
    sql.Column("message", sql.Text, nullable=False),
)
_folder = sql.Table(
    "regraft_folder_1",
    _metadata,
    sql.Column("folder", sql.String(2), primary_key=True),
    sql.Column("changed_ns", sql.BigInteger, nullable=False),
)
_ROWS_PER_INSERT = 500
_RACY_NS = 2_000_000_000
_CORRUPT = {1, 11, 26}  # SQLITE_ERROR (a table is missing), SQLITE_CORRUPT, SQLITE_NOTADB
_UNWRITABLE = {3, 8, 10, 13, 14}  # SQLITE_PERM, _READONLY, _IOERR, _FULL, _CANTOPEN


class Entry(msgspec.Struct, frozen=True):
    """One piece of evidence as the index knows it. `package` and `name` are None where it has no subject."""

    digest: Digest
    package: Digest | None
    name: str | None
    kind: str
    verdict: Verdict
    outcome: str
    summary: str
    started: str


class Index:
    """Queries over a store's evidence; every query first takes in what was written since the last one.

    A missing or corrupt SQLite file is rebuilt from the evidence; where it cannot be written (a read-only
    store) the index is kept in memory for as long as this object lives.

    Args:
        url: SQLAlchemy URL of the database; default: `index.sqlite` in the store. One store per database.
    """

    def __init__(self, store: Store, *, url: str | None = None) -> None:
        self._store = store
        self._file = None if url else store.root / "index.sqlite"
        self._url = url or f"sqlite:///{self._file}"
        self._open: sql.Engine | None = None

    def close(self) -> None:
        """Release the connections."""
        if self._open is not None:
            self._open.dispose()
            self._open = None

    def find(
        self,
        *,
        package: Digest | None = None,
        kind: str | None = None,
        verdict: Verdict | None = None,
        rule: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Evidence that meets every condition given, newest first.

        Args:
            rule: it has a finding under this rule.
            since, until: it was started then or later, then or before.
        """
        columns = [_evidence.c[name] for name in Entry.__struct_fields__]
        query = (
            sql.select(*columns).order_by(_evidence.c.started_s.desc().nulls_last(), _evidence.c.digest).limit(limit)
        )
        for column, value in ((_evidence.c.package, package), (_evidence.c.kind, kind), (_evidence.c.verdict, verdict)):
            if value is not None:
                query = query.where(column == str(value))
        if rule is not None:
            query = query.where(_evidence.c.digest.in_(sql.select(_finding.c.digest).where(_finding.c.rule == rule)))
        if since is not None:
            query = query.where(_evidence.c.started_s >= since.timestamp())
        if until is not None:
            query = query.where(_evidence.c.started_s <= until.timestamp())
        names = Entry.__struct_fields__
        return [msgspec.convert(dict(zip(names, row.values(), strict=True)), Entry) for row in self._rows(query)]

    def rules(self) -> list[tuple[str, Severity, int]]:
        """(rule, severity, pieces of evidence that have it), the most frequent first."""
        count = sql.func.count().label("records")
        query = sql.select(_finding.c.rule, _finding.c.severity, count).group_by(_finding.c.rule, _finding.c.severity)
        rows = self._rows(query.order_by(count.desc(), _finding.c.rule, _finding.c.severity))
        return [(row["rule"], Severity(row["severity"]), row["records"]) for row in rows]

    def damage(self) -> list[str]:
        """Evidence files that cannot be used, and why."""
        return [row["message"] for row in self._rows(sql.select(_damage.c.message).order_by(_damage.c.digest))]

    def records(self, package: Digest) -> Iterator[Record]:
        """The evidence about a package, newest first, read from its files."""
        for entry in self.find(package=package):
            yield Record(entry.digest, self._store.evidence(entry.digest))

    def rebuild(self) -> int:
        """Forget everything and read all evidence files again; returns how many are indexed."""

        def forget(engine: sql.Engine) -> None:
            with engine.begin() as connection:
                for table in _metadata.sorted_tables:
                    connection.execute(sql.delete(table))

        self._attempt(forget)
        return int(self._rows(sql.select(sql.func.count().label("n")).select_from(_evidence))[0]["n"])

    def _rows(self, query: sql.Select[Any]) -> Sequence[sql.RowMapping]:
        def ask(engine: sql.Engine) -> Sequence[sql.RowMapping]:
            self._catch_up(engine)
            with engine.connect() as connection:
                return connection.execute(query).mappings().all()

        return self._attempt(ask)

    def _attempt(self, work: Callable[[sql.Engine], _T]) -> _T:
        """Do something with the database; when its file is unusable, with a new one or one in memory."""
        for _ in range(3):
            try:
                return work(self._engine())
            except sql.exc.DatabaseError as error:
                self.close()
                self._replace(error)
        raise StoreError("the index cannot be used", where=str(self._file), hint="regraft doctor --reindex")

    def _engine(self) -> sql.Engine:
        if self._open is None:
            if self._file is not None and not self._store.exists():
                self._url = "sqlite://"
            engine = sql.create_engine(self._url, **_options(self._url))
            with engine.begin() as connection:
                if engine.dialect.name == "sqlite":
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
                for table in _metadata.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in sorted(table.indexes, key=lambda index: str(index.name)):
                        connection.execute(CreateIndex(index, if_not_exists=True))
            self._open = engine
        return self._open

    def _replace(self, error: sql.exc.DatabaseError) -> None:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if self._file is not None and code in _CORRUPT:
            for suffix in ("", "-wal", "-shm"):
                try:
                    self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
                except OSError:
                    self._url = "sqlite://"
        elif self._file is not None and code in _UNWRITABLE:
            self._url = "sqlite://"
        else:
            raise StoreError(
                f"the index cannot be used: {error.orig}",
                where=str(self._file or sql.make_url(self._url).render_as_string(hide_password=True)),
                hint="try again; regraft doctor --reindex rebuilds it",
            ) from error

    def _catch_up(self, engine: sql.Engine) -> None:
        """Take in what changed. Nothing is read inside the writing transaction, so writers queue up, not fail."""
        with engine.connect() as connection:
            seen = {row.folder: row.changed_ns for row in connection.execute(sql.select(_folder))}
        folders = {path.name: path for path in self._store.evidence_folders()}
        for name, path in folders.items():
            # Taken before the listing, and not believed while so fresh that a later file could share it.
            with told(path):
                changed_ns = path.stat().st_mtime_ns
            if seen.get(name) != changed_ns:
                is_settled = time.time_ns() - changed_ns > _RACY_NS
                self._take_in(engine, name, path, changed_ns if is_settled else 0)
        for name in seen.keys() - folders.keys():
            self._drop(engine, name)

    def _take_in(self, engine: sql.Engine, name: str, path: Path, changed_ns: int) -> None:
        there = set(digests_in(path))
        with engine.connect() as connection:
            query = sql.select(_evidence.c.digest).where(_evidence.c.folder == name)
            known = {Digest(digest) for digest in connection.execute(query).scalars()}
        rows: dict[sql.Table, list[dict[str, Any]]] = {_evidence: [], _finding: [], _damage: []}
        for digest in sorted(there - known):
            try:
                evidence = self._store.evidence(digest)
            except (DigestMismatch, StoreError, NotFound) as error:
                rows[_damage].append({"digest": digest, "folder": name, "message": _message(error)})
            else:
                rows[_evidence].append(_evidence_row(digest, evidence))
                rows[_finding] += _finding_rows(digest, evidence)
        insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        with engine.begin() as connection:
            connection.execute(sql.delete(_damage).where(_damage.c.folder == name))
            for digest in known - there:
                connection.execute(sql.delete(_evidence).where(_evidence.c.digest == digest))
                connection.execute(sql.delete(_finding).where(_finding.c.digest == digest))
            for table, values in rows.items():
                for start in range(0, len(values), _ROWS_PER_INSERT):
                    part = values[start : start + _ROWS_PER_INSERT]
                    connection.execute(insert(table).on_conflict_do_nothing(), part)
            connection.execute(sql.delete(_folder).where(_folder.c.folder == name))
            seen_row = {"folder": name, "changed_ns": changed_ns}
            connection.execute(insert(_folder).on_conflict_do_nothing(), [seen_row])

    def _drop(self, engine: sql.Engine, name: str) -> None:
        within = sql.select(_evidence.c.digest).where(_evidence.c.folder == name)
        with engine.begin() as connection:
            connection.execute(sql.delete(_finding).where(_finding.c.digest.in_(within)))
            for table in (_evidence, _damage, _folder):
                connection.execute(sql.delete(table).where(table.c.folder == name))


def reindex(store: Store, *, url: str | None = None) -> int:
    """Rebuild the index of a store from its evidence files; returns how many are indexed."""
    index = Index(store, url=url)
    try:
        return index.rebuild()
    finally:
        index.close()


def _options(url: str) -> dict[str, Any]:
    if sql.make_url(url).get_backend_name() != "sqlite":
        return {}
    options: dict[str, Any] = {"connect_args": {"timeout": 30}}
    if url == "sqlite://":
        options["poolclass"] = sql.StaticPool
    return options


def _evidence_row(digest: Digest, evidence: Evidence) -> dict[str, Any]:
    first = evidence.subject[0] if evidence.subject else None
    return {
        "digest": digest,
        "folder": digest[:2],
        "package": first.sha256 if first else None,
        "name": _without_nul(first.name) if first else None,
        "kind": evidence.kind,
        "verdict": evidence.verdict.value,
        "outcome": _without_nul(evidence.outcome),
        "summary": _without_nul(evidence.summary),
        "started": evidence.started,
        "started_s": _seconds(evidence.started),
    }


def _finding_rows(digest: Digest, evidence: Evidence) -> list[dict[str, Any]]:
    times: dict[tuple[str, str], int] = {}
    for finding in evidence.findings:
        key = finding.rule, finding.severity.value
        times[key] = times.get(key, 0) + 1
    return [{"digest": digest, "rule": rule, "severity": sev, "times": n} for (rule, sev), n in times.items()]


def _without_nul(text: str) -> str:
    """PostgreSQL has no NUL in texts, and hostile file names may."""
    return text.replace("\0", "\\0")


def _seconds(started: str) -> float | None:
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _message(error: RegraftError) -> str:
    return f"{error.where}: {error.what}"
