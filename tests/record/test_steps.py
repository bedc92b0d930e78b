"""Step keys: equal for equal work, different for any other."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest

from regraft.record.digest import Digest
from regraft.record.evidence import DigestKind, Subject
from regraft.record.steps import step_key

_A, _B = Digest("aa" * 32), Digest("bb" * 32)
_BASE: dict[str, Any] = {
    "version": 1,
    "subjects": [Subject("m", _A)],
    "materials": [Subject("d", _B)],
    "parameters": {"to": "onnx", "opset": 20, "taps": [1, 2]},
    "seed": 0,
    "runtimes": {"torch": "2.13.0", "onnx": "1.23.2"},
}


def test_the_key_does_not_depend_on_names_or_the_order_of_keys() -> None:
    again = _BASE | {
        "subjects": [Subject("renamed", _A)],
        "parameters": {"taps": [1, 2], "opset": 20, "to": "onnx"},
        "runtimes": {"onnx": "1.23.2", "torch": "2.13.0"},
    }
    assert step_key("convert", **_BASE) == step_key("convert", **again)


def test_the_key_is_stable_between_releases() -> None:
    # A change of this value makes every store forget what was done: raise it on purpose only.
    canonical = (
        f'{{"materials":[["{_B}","computed"]],"parameters":{{"opset":20,"taps":[1,2],"to":"onnx"}},'
        f'"runtimes":{{"onnx":"1.23.2","torch":"2.13.0"}},"seed":0,"subjects":[["{_A}","computed"]],'
        f'"verb":"convert","version":1}}'
    )
    assert step_key("convert", **_BASE) == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"subjects": [Subject("m", _B)]},
        {"subjects": [Subject("m", _A, DigestKind.PARTIAL)]},
        {"subjects": [Subject("m", _A), Subject("d", _B)], "materials": []},
        {"materials": []},
        {"parameters": {"to": "onnx", "opset": "20", "taps": [1, 2]}},
        {"parameters": {"to": "onnx", "opset": 20.0, "taps": [1, 2]}},
        {"parameters": {"to": "onnx", "opset": 20, "taps": [2, 1]}},
        {"seed": None},
        {"seed": 1},
        {"runtimes": {"torch": "2.13.1", "onnx": "1.23.2"}},
    ],
)
def test_whatever_may_change_the_result_changes_the_key(change: dict[str, Any]) -> None:
    assert step_key("convert", **_BASE) != step_key("convert", **(_BASE | change))
    assert step_key("verify", **_BASE) != step_key("convert", **_BASE)


@pytest.mark.parametrize("value", [math.nan, math.inf, (1, 2), b"x", {1: 2}, object()])
def test_values_that_json_would_fold_together_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"parameters\.x"):
        step_key("convert", **(_BASE | {"parameters": {"x": [value]}}))
