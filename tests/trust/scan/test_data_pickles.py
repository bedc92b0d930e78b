"""Parts of data files that libraries unpickle."""

from __future__ import annotations

import base64
import io

import pytest

OLD = "cos\nsystem\n(S'echo pwned'\ntR."


def hdf5(**attributes: object) -> bytes:
    h5py = pytest.importorskip("h5py")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key, value in attributes.items():
            file.create_group("table").attrs[key] = value
    return buffer.getvalue()


def test_an_attribute_that_runs_code(rules_of):
    assert "RGS-DAT-001" in rules_of({"d.h5": hdf5(TITLE=OLD)})


@pytest.mark.parametrize("text", ["A table.", "(a) 3.5 m.", "cs.", "Nothing.", "I5\n.", "(lp0\nI1\na.", 3, [1.0, 2.0]])
def test_other_attributes_are_nothing(rules_of, text):
    assert "RGS-DAT-001" not in rules_of({"d.h5": hdf5(TITLE=text)})


@pytest.mark.parametrize("end", [b"", b"=", b"==", b"A", b"AA", b"AA=A===="])
def test_a_schema_that_arrow_stored_is_read_whatever_its_padding(rules_of, end):
    schema = base64.b64encode(b"ARROW:extension:name..arrow.py_extension_type").rstrip(b"=")
    parquet = b"PAR1" + bytes(9) + b"ARROW:schema\x18\x80\x01" + schema + end + b"\0\0\0\0PAR1"
    assert "RGS-DAT-002" in rules_of({"d.parquet": parquet})


def test_extension_types_of_arrow(rules_of):
    schema = b"ARROW:extension:name" + b"arrow.py_extension_type" + OLD.encode()
    parquet = b"PAR1" + bytes(9) + b"ARROW:schema\x18\x80\x01" + base64.b64encode(schema) + b"\0\0\0\0PAR1"
    assert "RGS-DAT-002" in rules_of({"d.arrow": b"ARROW1\0\0" + bytes(24) + schema})
    assert "RGS-DAT-002" in rules_of({"d.parquet": parquet})
    assert "RGS-DAT-002" not in rules_of({"d.arrow": b"ARROW1\0\0" + bytes(24) + b"ARROW:extension:name\0uuid"})
