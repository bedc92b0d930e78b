"""Gradient-boosted trees: XGBoost's JSON, LightGBM's text and CatBoost's binary models, as far as their heads say."""

from __future__ import annotations

from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role

_LIGHTGBM_FACTS = ("version", "num_class", "objective", "max_feature_idx", "num_tree_per_iteration")
_MAX_FACT_CHARS = 500


class XGBoostJson:
    """Format `xgboost-json`."""

    name = "xgboost-json"
    title = "XGBoost model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with a `learner` that has a `gradient_booster`."""
        return _learner(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Objective, booster, number of features and trees."""
        learner = _learner(probe)
        if learner is None:
            raise Damaged("not an XGBoost model", where=probe.reader.where)
        metadata = {}
        for key, holder in (("objective", learner.get("objective")), ("booster", learner.get("gradient_booster"))):
            if isinstance(holder, dict) and isinstance(holder.get("name"), str):
                metadata[key] = holder["name"][:_MAX_FACT_CHARS]
        parameters = learner.get("learner_model_param")
        for key in ("num_feature", "num_class"):
            if isinstance(parameters, dict) and isinstance(parameters.get(key), str):
                metadata[key] = parameters[key][:_MAX_FACT_CHARS]
        version = probe.json.get("version")
        numbers = version if isinstance(version, list) else []
        return Description(version=".".join(str(n) for n in numbers[:3] if type(n) is int) or None, metadata=metadata)


class LightGbmText:
    """Format `lightgbm-text`."""

    name = "lightgbm-text"
    title = "LightGBM model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".txt",)

    def matches(self, probe: Probe) -> bool:
        """Text whose first lines are `tree` and `version=v…`."""
        return probe.head.startswith((b"tree\nversion=v", b"tree\r\nversion=v"))

    def describe(self, probe: Probe) -> Description:
        """The head's own facts."""
        metadata = {}
        for line in probe.head.decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            if key in _LIGHTGBM_FACTS:
                metadata[key] = value[:_MAX_FACT_CHARS]
        return Description(version=metadata.pop("version", None), metadata=metadata)


class CatBoost:
    """Format `catboost`."""

    name = "catboost"
    title = "CatBoost model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".cbm",)

    def matches(self, probe: Probe) -> bool:
        """The signature `CBM1`."""
        return probe.head.startswith(b"CBM1")

    def describe(self, probe: Probe) -> Description:
        """Nothing beyond the signature is read."""
        return Description(version="1")


def _learner(probe: Probe) -> dict[str, Any] | None:
    if b'"learner"' not in probe.head:
        return None
    learner = probe.json.get("learner") if isinstance(probe.json, dict) else None
    return learner if isinstance(learner, dict) and "gradient_booster" in learner else None
