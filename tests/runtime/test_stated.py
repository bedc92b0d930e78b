"""What compiled networks say of themselves: read back, or damage in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regraft.errors import Damaged
from regraft.package.formats import Port
from regraft.runtime.interface import Signature
from regraft.runtime.stated import read_signature, stated_signature

WHOLE: dict[str, Any] = {"precision": "float32", "inputs": [["x", "float32", [1, 3]]], "outputs": [["y", "int64", []]]}


def test_what_a_converter_wrote_is_read_back() -> None:
    signature = Signature(
        (Port("ids", "int64", ("batch", 3, None)), Port("x", "bfloat16")), (Port("y", "float32", ()),), {"ids": (0, 8)}
    )
    assert read_signature(stated_signature(signature, "mixed"), "m") == (signature, "mixed")
    found, precision = read_signature(json.dumps(WHOLE), "m", is_fixed=True)
    assert (found.inputs, precision) == ((Port("x", "float32", (1, 3)),), "float32")


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": 3},
        {"inputs": [["x", "float32"]]},
        {"inputs": [[1, "float32", []]]},
        {"inputs": [["x", "float33", []]]},
        {"inputs": [["x", "float32", [-1]]]},
        {"inputs": [["x", "float32", [1.5]]]},
        {"inputs": [["x", "float32", "13"]]},
        {"outputs": [["y", None, []]]},
        {"inputs": [["x", "float32", []], ["x", "float32", []]]},
        {"precision": "best"},
        {"precision": 32},
        {"ranges": {"x": [0]}},
    ],
)
def test_what_is_no_signature_is_damage(changed: dict[str, Any]) -> None:
    with pytest.raises(Damaged, match="its own signature"):
        read_signature(json.dumps({**WHOLE, **changed}), "m")


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, json.dumps(WHOLE).replace("1,", "1e400,"), "\ud800"])
def test_what_is_no_json_is_damage(text: str) -> None:
    with pytest.raises(Damaged, match="its own signature"):
        read_signature(text, "m")


@pytest.mark.parametrize("shape", [None, ["batch", 3], [None]])
def test_sizes_have_to_be_numbers_where_they_are_fixed(shape: Any) -> None:
    text = json.dumps({**WHOLE, "inputs": [["x", "float32", shape]]})
    assert read_signature(text, "m")[1] == "float32"
    with pytest.raises(Damaged, match="no fixed shape"):
        read_signature(text, "m", is_fixed=True)
