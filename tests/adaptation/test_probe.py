from __future__ import annotations

import numpy as np

from regraft.adaptation.data import LabelledData
from regraft.adaptation.probe import (
    _predictions,
    _wide_predictions,
    chosen_strength,
    cross_validated,
    fit,
    linear_head,
    logistic_probe,
    majority,
    nearest_neighbours,
    raw_baseline,
    raw_inputs,
    temperature,
)


def blobs(classes: int, *, rows: int = 200, width: int = 6, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    centres = rng.normal(size=(classes, width)) * 2
    return (centres[labels] + spread * rng.normal(size=(rows, width))).astype(np.float32), labels


def test_the_head_is_the_probe() -> None:
    """Folding the standardisation in changes nothing but rounding: logits are sums of six float32 terms."""
    for classes in (2, 4):
        features, labels = blobs(classes, spread=2)
        features *= np.float32([1, 10, 0.1, 3, 5, 1])
        fitted = fit(logistic_probe(), features, labels, 0.1)
        weight, bias = linear_head(fitted, classes)
        logits = features @ weight.T + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), fitted.predict_proba(features), atol=1e-5)


def test_a_feature_that_fired_once_does_not_decide_alone() -> None:
    """Divided by its own deviation it would count a hundred times more when it fires anew."""
    features, labels = blobs(2, rows=1000, spread=0.5)
    rare = np.zeros((1000, 1), np.float32)
    rare[7] = 1e-4
    fitted = fit(logistic_probe(), np.hstack([features, rare]), labels, 1.0)
    new = np.hstack([features[:100], np.full((100, 1), 0.1, np.float32)])
    assert (fitted.predict(new) == labels[:100]).mean() > 0.98
    plain = fit(logistic_probe(), features, labels, 1.0)
    np.testing.assert_array_equal(plain[0].scale_, features.astype(np.float64).std(axis=0))


def test_scores_of_easy_and_of_meaningless_features() -> None:
    features, labels = blobs(2, spread=0.3)
    assert cross_validated(logistic_probe(), features, labels, seed=0).scores.mean() > 0.98
    assert cross_validated(nearest_neighbours(200), features, labels, seed=0).scores.mean() > 0.98
    noise = np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32)
    assert abs(cross_validated(logistic_probe(), noise, labels, seed=0).scores.mean() - 0.5) < 0.12
    assert cross_validated(majority(), noise, labels, seed=0).scores.mean() == 0.5


def test_many_features_are_turned_into_few_without_another_choice() -> None:
    """Predictions of both ways differ at most in rows that lie on the border between two classes."""
    features, labels = blobs(4, rows=120, width=400, spread=6)
    method = logistic_probe()
    plain = list(_predictions(method, features[:90], labels[:90], features[90:]))
    turned = list(_wide_predictions(method, features[:90], labels[:90], features[90:]))
    assert len(plain) == len(turned) == len(method.strengths)
    for one, other in zip(plain, turned, strict=True):
        assert (one != other).mean() < 0.05
    assert 0.5 < np.mean([(one == labels[90:]).mean() for one in turned]) < 1, "neither trivial nor hopeless"
    assert {len(np.unique(one)) for one in turned} == {4}


def test_folds_are_shared_and_repeatable() -> None:
    features, labels = blobs(2, rows=80, spread=3)
    one, two = (cross_validated(logistic_probe(), features, labels, seed=3).scores for _ in range(2))
    assert (one == two).all()
    assert len(one) == 10


def test_temperature_repairs_a_penalty_that_is_far_too_strong() -> None:
    features, labels = blobs(2, rows=600, spread=2.5)
    divisor = temperature(logistic_probe(), features, labels, 1e-4, seed=0)
    assert divisor < 0.5
    assert 0.5 < temperature(logistic_probe(), features, labels, 1.0, seed=0) < 2


def test_baselines_on_raw_input(digits: LabelledData) -> None:
    method, inputs = raw_baseline(digits), raw_inputs(digits)
    assert method.name == "raw pixels"
    assert cross_validated(method, inputs[:90], digits.labels[:90], seed=0).scores.mean() > 0.8
    texts = [f"{'fine' if i % 2 else 'poor'} film {i}" for i in range(60)]
    data = LabelledData("t", texts, [str(i % 2) for i in range(60)])
    words, inputs = raw_baseline(data), raw_inputs(data)
    assert words.name == "TF-IDF"
    assert chosen_strength(words, inputs, data.labels, seed=0) in words.strengths
    assert cross_validated(words, inputs, data.labels, seed=0).scores.mean() == 1
