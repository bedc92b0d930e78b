"""skops files: arrays by their place in the tree of objects."""

from __future__ import annotations

import io
import json
import random
import zipfile

import numpy as np

from regraft.errors import RegraftError
from regraft.package.formats.interface import Loading, Probe
from regraft.package.formats.skops import Skops
from regraft.package.reader import BytesReader

ARRAY = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy"}
SCHEMA = {
    "__class__": "LogisticRegression",
    "__module__": "sklearn.linear_model._logistic",
    "__loader__": "ObjectNode",
    "content": {
        "__class__": "dict",
        "__module__": "builtins",
        "__loader__": "DictNode",
        "content": {
            "coef_": {**ARRAY, "file": "1.npy"},
            "classes_": {**ARRAY, "file": "2.npy"},
            "lost_": {**ARRAY, "file": "3.npy"},
        },
    },
    "protocol": 2,
    "_skops_version": "0.16.0",
}


def skops_file(schema: str) -> bytes:
    """The layout that skops 0.16 writes: stored members, the schema last."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in (("1.npy", np.zeros((1, 7))), ("2.npy", np.array([True, False]))):
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(name, content.getvalue())
        archive.writestr("schema.json", schema)
    return buffer.getvalue()


def probe(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="test"), "test.skops")


def test_arrays_types_and_version() -> None:
    data = skops_file(json.dumps(SCHEMA))
    assert Skops().matches(probe(data))
    assert Skops().loading is Loading.CODE
    description = Skops().describe(probe(data))
    assert [(t.name, t.dtype, t.shape) for t in description.tensors or ()] == [
        ("coef_", "float64", (1, 7)),
        ("classes_", "bool", (2,)),
    ]
    assert [problem.kind for problem in description.problems] == ["missing-storage"]
    assert description.metadata["skops_version"] == "0.16.0"
    assert description.metadata["object"] == "sklearn.linear_model._logistic.LogisticRegression"
    assert "numpy.ndarray" in description.metadata["classes"]


def test_a_zip_with_another_schema_is_not_taken() -> None:
    assert not Skops().matches(probe(skops_file('{"type": "object"}')))


def test_damage_and_nesting_leak_no_other_error() -> None:
    dice = random.Random(4)
    deep = '{"__loader__": ' * 3000 + "1" + "}" * 3000
    data = skops_file(json.dumps(SCHEMA))
    cases = [skops_file(deep), skops_file('["__loader__", 1]'), skops_file('{"__loader__": {"file": ["x.npy"]}}')]
    for step in range(200):
        changed = bytearray(data[: len(data) * step // 50] if step < 50 else data)
        for _ in range(dice.randint(1, 5) if step >= 50 else 0):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        cases.append(bytes(changed))
    for case in cases:
        if Skops().matches(probe(case)):
            try:
                Skops().describe(probe(case))
            except RegraftError:
                continue
