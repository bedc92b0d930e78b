"""Rows of labelled data out of files: CSV, TSV, JSON lines, plain or gzipped; JSON matrices, one file a class."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from regraft.errors import AmbiguousReference, Damaged, LimitExceeded, NotFound, Unsupported
from regraft.package.compression import expand, sniff
from regraft.package.package import Package

MAX_TABLE_BYTES = 1 << 30
MAX_ROWS = 5_000_000
MAX_COLUMNS = 100_000
_MAX_FIELD_CHARS = 16 << 20
_SUFFIXES = re.compile(r"\.(csv|tsv|jsonl|ndjson|json)(?:\.gz)?$", re.IGNORECASE)
_NOT_READ = (".parquet", ".arrow", ".feather", ".xlsx")
_LISTED = 8

Row = tuple[str | None, ...]


class Table(msgspec.Struct, frozen=True):
    """Rows under named columns.

    Attributes:
        columns: names; positions as text ("0", "1", …) where the file has no header.
        rows: one text or None a column.
        has_header: whether the names are the file's own.
        where: the file.
        ragged: rows of another length than the header, which were left out.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    has_header: bool
    where: str
    ragged: int = 0


class Matrices(msgspec.Struct, frozen=True):
    """Rows of numbers, grouped by class: what a folder of `NAME.json` files holds.

    Attributes:
        rows: class name → rows of the usual length.
        misshapen: class name → how many rows had another length and were left out.
    """

    rows: dict[str, list[list[float]]]
    misshapen: dict[str, int]


def read_rows(package: Package) -> Table | Matrices:
    """The one table of a package, or the matrices of a folder of JSON files.

    Raises:
        NotFound: no file of a kind that is read here.
        AmbiguousReference: several; the message lists them.
        Damaged, LimitExceeded: the content is not what its suffix says, or too much.
        Unsupported: a kind of table that is not read.
    """
    paths = [entry.path for entry in package.entries if entry.obstacle is None]
    tables = [path for path in paths if (match := _SUFFIXES.search(path)) and match[1].lower() != "json"]
    if len(tables) == 1:
        return _table(package, tables[0])
    if tables:
        listed = ", ".join(tables[:_LISTED]) + (" …" if len(tables) > _LISTED else "")
        raise AmbiguousReference(
            f"{len(tables)} tables could be meant: {listed}", where=str(package.ref), hint=f"name one: …#{tables[0]}"
        )
    matrices = [path for path in paths if path.endswith(".json") and posixpath.basename(path) != "package.json"]
    if matrices:
        return _matrices(package, matrices)
    other = [path for path in paths if path.lower().endswith(_NOT_READ)]
    if other:
        raise Unsupported("tables of this kind are not read", where=other[0], hint="write it as CSV or JSON lines")
    raise NotFound("no table in it: looked for .csv, .tsv, .jsonl, plain or .gz, and .json", where=str(package.ref))


def _content(package: Package, path: str) -> bytes:
    reader = package.open(path)
    try:
        codec = sniff(reader.read_at(0, 16)) if path.lower().endswith(".gz") else None
        source = expand(reader, codec).reader if codec else reader
        return source.read_all(limit=MAX_TABLE_BYTES)
    finally:
        reader.close()


def _text(package: Package, path: str) -> str:
    try:
        return _content(package, path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Damaged(
            f"not UTF-8 at byte {error.start}", where=path, hint="iconv -f latin1 -t utf-8 turns it into UTF-8"
        ) from None


def _table(package: Package, path: str) -> Table:
    match = _SUFFIXES.search(path)
    kind = match[1].lower() if match else "csv"
    text = _text(package, path)
    if kind in ("jsonl", "ndjson"):
        return _from_json_lines(text, path)
    return _from_separated(text, path, "\t" if kind == "tsv" else _delimiter(text))


def _delimiter(text: str) -> str:
    first = text[: text.find("\n")] if "\n" in text else text
    return max(",;\t|", key=first.count)


def _from_separated(text: str, path: str, delimiter: str) -> Table:
    before = csv.field_size_limit(_MAX_FIELD_CHARS)
    try:
        rows = list(_bounded(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), path))
    except csv.Error as error:
        raise Damaged(f"not a table: {error}", where=path) from None
    finally:
        csv.field_size_limit(before)
    rows = [row for row in rows if row]
    if not rows:
        return Table((), (), False, path)
    has_header = not all(_is_number(cell) for cell in rows[0])
    columns = tuple(cell.strip() for cell in rows[0]) if has_header else tuple(map(str, range(len(rows[0]))))
    body = rows[1:] if has_header else rows
    whole = tuple(tuple(row) for row in body if len(row) == len(columns))
    return Table(columns, whole, has_header, path, ragged=len(body) - len(whole))


def _bounded(rows: Iterator[list[str]], path: str) -> Iterator[list[str]]:
    for number, row in enumerate(rows):
        if number >= MAX_ROWS or len(row) > MAX_COLUMNS:
            raise LimitExceeded(f"more than {MAX_ROWS} rows or {MAX_COLUMNS} columns", where=path)
        yield row


def _from_json_lines(text: str, path: str) -> Table:
    records: list[dict[str, Any]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if len(records) >= MAX_ROWS:
            raise LimitExceeded(f"more than {MAX_ROWS} rows", where=path)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Damaged(f"line {number} is not JSON: {error}", where=path) from None
        if not isinstance(record, dict):
            raise Damaged(f"line {number} is not an object", where=path)
        records.append(record)
        columns.update(dict.fromkeys(map(str, record)))
    rows = tuple(tuple(_cell(record.get(column)) for column in columns) for record in records)
    return Table(tuple(columns), rows, True, path)


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, bool | int | float) else json.dumps(value)


def _matrices(package: Package, paths: list[str]) -> Matrices:
    rows: dict[str, list[list[float]]] = {}
    misshapen: dict[str, int] = {}
    for path in paths:
        found = _matrix(_content(package, path), path)
        lengths = [len(row) for row in found]
        usual = max(set(lengths), key=lengths.count, default=0)
        name = posixpath.basename(path).removesuffix(".json")
        rows[name] = [row for row in found if len(row) == usual and usual]
        misshapen[name] = len(found) - len(rows[name])
    widths = {len(kept[0]) for kept in rows.values() if kept}
    if len(widths) > 1:
        raise Damaged(f"rows of {min(widths)} and of {max(widths)} numbers", where=paths[0])
    return Matrices(rows, {name: count for name, count in misshapen.items() if count})


def _matrix(content: bytes, path: str) -> list[list[float]]:
    class Holder(msgspec.Struct):
        data: list[list[float]]

    try:
        if content.lstrip()[:1] == b"[":
            return msgspec.json.decode(content, type=list[list[float]])
        return msgspec.json.decode(content, type=Holder).data
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(f"not a matrix of numbers: {error}", where=path) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
