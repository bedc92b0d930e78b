"""Steps of a data pipeline, each on what the reference's step before made."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conceptual.stages.trainings import one, side, told

from regraft.conceptual.stages.interface import Side, Status

Pixels = np.ndarray


def pictures() -> list[Pixels]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:30, :34]
    made = []
    for _ in range(3):
        slopes = np.stack([rows * rng.uniform(1, 6) + columns * rng.uniform(1, 6) for _ in range(3)], -1)
        made.append((slopes % 256).astype(np.uint8))
    return made


def resize(picture: Pixels, kind: Image.Resampling = Image.Resampling.BILINEAR) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((20, 18), kind))


def crop(picture: Pixels, top: int = 1, size: int = 16) -> Pixels:
    return picture[top : top + size, 2 : 2 + size]


def scale(picture: Pixels) -> Pixels:
    return picture.astype(np.float32) / 255


def normalise(picture: Pixels, mean: float = 0.5) -> Pixels:
    return (picture - np.float32([mean, 0.45, 0.4])) / np.float32([0.2, 0.22, 0.25])


def layout(picture: Pixels) -> Pixels:
    return picture.transpose(2, 0, 1)


STEPS = {"resize": resize, "crop": crop, "scale": scale, "normalise": normalise, "layout": layout}


def data(samples: Any = None, **steps: Callable[[Any], Any]) -> Side:
    return side(lambda: {"samples": pictures() if samples is None else samples, "pipeline": {**STEPS, **steps}})


@pytest.mark.parametrize(
    ("step", "run", "cause"),
    [
        ("resize", lambda p: resize(p[..., ::-1]), "channel order"),
        ("resize", lambda p: resize(p, Image.Resampling.BICUBIC), "interpolation"),
        ("crop", lambda p: crop(p, 2), "crop offset"),
        ("crop", lambda p: crop(p, size=14), "crop size"),
        ("crop", lambda p: crop(p)[:, ::-1], "flip"),
        ("scale", lambda p: p.astype(np.float32), "value range"),
        ("scale", lambda p: scale(p).astype(np.float16), "dtype"),
        ("normalise", lambda p: normalise(p, 0.48), "normalisation constants"),
        ("layout", lambda p: p.transpose(2, 1, 0), "layout"),
    ],
)
def test_a_fault_is_found_at_its_step(step: str, run: Callable[[Any], Any], cause: str) -> None:
    found = one("pipeline", data(), data(**{step: run}))

    assert told(found) == [(step, cause)]
    assert found.divergences[0].first == 0


def test_a_step_written_otherwise_agrees() -> None:
    found = one("pipeline", data(), data(scale=lambda p: p * np.float32(1 / 255)))

    assert found.status is Status.AGREES


def test_only_the_samples_that_differ_are_listed() -> None:
    shown = pictures()

    def second_is_flipped(picture: Pixels) -> Pixels:
        resized = resize(picture)
        return resized[::-1] if np.array_equal(picture, shown[1]) else resized

    (divergence,) = one("pipeline", data(), data(resize=second_is_flipped)).divergences

    assert (divergence.first, divergence.names, divergence.cause) == (1, ("1",), "flip")


def test_samples_in_another_order_are_told() -> None:
    found = one("pipeline", data(), data(samples=pictures()[::-1]))

    assert told(found) == [("extract", "order")]


def test_a_candidate_without_samples_gets_those_of_the_reference() -> None:
    found = one("pipeline", data(), side(lambda: {"pipeline": STEPS}))

    assert found.status is Status.AGREES


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        (lambda t: t.lower().split(), "lower-casing"),
        (lambda t: t.split()[:3], "truncation"),
        (lambda t: t.split()[1:], "special tokens"),
    ],
)
def test_texts(step: Callable[[str], list[str]], cause: str) -> None:
    words = "the The cat sat on a mat".split()

    def ids(tokens: list[str]) -> np.ndarray:
        return np.array([words.index(one) for one in tokens])

    sentences = ["The cat sat on the mat", "The cat sat on a mat"]
    reference = side(lambda: {"samples": sentences, "pipeline": [("tokens", lambda t: ids(t.split()))]})
    candidate = side(lambda: {"samples": sentences, "pipeline": [("tokens", lambda t: ids(step(t)))]})

    assert told(one("pipeline", reference, candidate)) == [("tokens", cause)]


@pytest.mark.parametrize("drawn", [lambda: random.randint(0, 2), lambda: int(torch.randint(0, 3, ()))])
def test_random_augmentation_is_not_judged(drawn: Callable[[], int]) -> None:
    def noisy(picture: Pixels) -> Pixels:
        return crop(picture, top=drawn())

    found = one("pipeline", data(), data(crop=noisy))

    assert found.status is Status.UNDECIDED
    assert "draws random numbers" in found.reason


def test_a_step_that_fails_says_how() -> None:
    def broken(picture: Pixels) -> Pixels:
        raise ValueError("no such mode")

    (divergence,) = one("pipeline", data(), data(scale=broken)).divergences

    assert divergence.place == "scale"
    assert "ValueError: no such mode" in divergence.detail
