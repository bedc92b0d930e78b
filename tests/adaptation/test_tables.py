from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.adaptation.tables import Matrices, Table, read_rows
from regraft.errors import AmbiguousReference, Damaged, NotFound, RegraftError, Unsupported
from regraft.package.package import open_package


def table(path: Path) -> Table:
    with open_package(path) as package:
        found = read_rows(package)
    assert isinstance(found, Table)
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\nx y,1\n"a, b",0\n'),
        ("a.tsv", "text\tlabel\nx y\t1\na, b\t0\n"),
        ("semicolons.csv", "text;label\nx y;1\na, b;0\n"),
        ("a.jsonl", '{"text": "x y", "label": 1}\n\n{"label": 0.0, "text": "a, b"}\n'),
    ],
)
def test_the_same_rows_in_every_form(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    for path in (tmp_path / name, tmp_path / "zipped" / f"{name}.gz"):
        found = table(path)
        assert found.columns == ("text", "label")
        assert found.rows == (("x y", "1"), ("a, b", "0"))


def test_a_table_of_numbers_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,1,2\n3,4,5\n")
    found = table(tmp_path / "a.csv")
    assert not found.has_header
    assert found.columns == ("0", "1", "2")
    assert len(found.rows) == 2


def test_ragged_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\nb\nc,0,9\n")
    assert table(tmp_path / "a.csv").ragged == 2


def test_classes_by_file(tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_text('{"data": [[1, 2, 3, 4], [], [5, 6, 7, 8]]}')
    (tmp_path / "dog.json").write_text("[[0, 0, 0, 9]]")
    with open_package(tmp_path) as package:
        found = read_rows(package)
    assert isinstance(found, Matrices)
    assert found.misshapen == {"cat": 1}
    assert found.rows["dog"] == [[0, 0, 0, 9]]


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotFound), open_package(tmp_path) as package:
        read_rows(package)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(Unsupported, match="tables of this kind"), open_package(tmp_path) as package:
        read_rows(package)
    (tmp_path / "a.csv").write_text("text,label\n")
    (tmp_path / "b.csv").write_text("text,label\n")
    with pytest.raises(AmbiguousReference, match=r"a\.csv, b\.csv"), open_package(tmp_path) as package:
        read_rows(package)
    (tmp_path / "b.csv").unlink()
    (tmp_path / "a.csv").write_bytes(b"text,label\ncaf\xe9,1\n")
    with pytest.raises(Damaged, match="byte 14"), open_package(tmp_path) as package:
        read_rows(package)


@given(st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.json", "a.csv.gz"]), st.binary(max_size=300))
def test_hostile_bytes_only_raise_our_errors(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes) -> None:
    path = tmp_path_factory.mktemp("hostile") / name
    path.write_bytes(data)
    try:
        with open_package(path) as package:
            read_rows(package)
    except RegraftError:
        pass
