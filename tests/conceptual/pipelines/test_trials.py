"""Faster ways to run a pipeline: which are proposed follows from their results; times only have to be far apart."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from regraft.conceptual.pipelines.recording import Recording, apart, record
from regraft.conceptual.pipelines.rewrites import Kind, rewrites
from regraft.conceptual.pipelines.trials import compared, trials
from regraft.conceptual.stages.interface import Step
from regraft.errors import Unsupported

Pixels = np.ndarray


def pictures(count: int = 4, size: int = 32) -> list[Pixels]:
    drawn = np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    drawn[:, ::2, ::2] = 255  # white everywhere, so that the largest value of any part is that of the whole
    return list(drawn)


def convert(picture: Pixels) -> Pixels:
    return picture.astype(np.float32)


def normalise(picture: Pixels) -> Pixels:
    return np.sqrt(picture)


def crop(picture: Pixels) -> Pixels:
    return picture[4:12, 4:12]


def by_largest(picture: Pixels) -> Pixels:
    return np.sqrt(picture / picture.max())


def halved(picture: Pixels) -> Pixels:
    return (picture[::2, ::2] + picture[1::2, 1::2]) / np.float32(2)


def flip(picture: Pixels) -> Pixels:
    return picture[:, ::-1] if np.random.rand() < 0.5 else picture


def torch_noise(picture: Pixels) -> Pixels:
    return picture + torch.rand(1).numpy()


def recorded(*steps: Callable[[Any], Any], samples: Sequence[Any] | None = None) -> Recording:
    return record([Step(step.__name__, step) for step in steps], pictures() if samples is None else samples)


def results(recording: Recording) -> dict[str, tuple[float | None, str]]:
    """Rewrite that runs → how far its results are apart, and where they differ."""
    found = {}
    for rewrite in rewrites(recording):
        with contextlib.suppress(Unsupported):
            found[rewrite.text] = compared(recording, rewrite)
    return found


def test_the_faster_equal_ways_are_proposed_and_others_told_apart() -> None:
    def slow(picture: Pixels) -> Pixels:
        time.sleep(0.003 if picture.size > 1000 else 0)  # takes no longer where the processor is busy
        return picture * 2

    def slow_largest(picture: Pixels) -> Pixels:
        time.sleep(0.003 if picture.size > 1000 else 0)
        return picture / max(picture.max(), 1)

    recording = recorded(slow, crop, slow_largest)
    found, untried = trials(recording, [0.5, 0.0, 0.5])

    assert untried == 0
    told = {one.text: one for one in found}
    first = told["crop before slow"]
    assert (first.kind, first.floors, first.differs, first.compared) == (Kind.REORDER, 0.0, "", (4, 8))
    assert first.ratio.high is not None
    assert first.ratio.high < 1
    assert 0 < first.saved <= 0.5
    assert "slow_largest before slow and crop" not in told  # slower
    assert [one.saved for one in found] == sorted((one.saved for one in found), reverse=True)


def test_when_time_is_up_the_rest_is_counted() -> None:
    recording = recorded(convert, normalise, crop)

    assert trials(recording, [0.3, 0.4, 0.3], max_s=0.0) == ([], len(list(rewrites(recording))))


def test_a_crop_may_come_before_what_is_done_pixel_by_pixel() -> None:
    found = results(recorded(convert, normalise, crop))

    assert found["crop before convert and normalise"] == (0.0, "")


def test_an_order_that_happens_to_be_right_on_the_samples_is_not() -> None:
    recording = recorded(by_largest, crop)
    swapped = [by_largest(crop(picture)) for picture in pictures()]
    assert all(np.array_equal(one, made) for one, made in zip(swapped, recording.given[-1], strict=False))

    found = results(recording)["by_largest, which widens the numbers, after crop"]

    assert found == (None, "differs at sample 4, which is made up, by step by_largest")


def test_a_cast_may_come_after_several_steps() -> None:
    found = results(recorded(convert, flip, crop))

    assert found["convert, which widens the numbers, after flip and crop"] == (0.0, "")


def test_equal_within_rounding_is_told_from_equal() -> None:
    def weigh(picture: Pixels) -> Pixels:
        return picture * np.float32(0.7)

    floors, differs = results(recorded(convert, weigh, halved))["halved before weigh"]

    assert differs == ""
    assert floors is not None
    assert 0 < floors < 1  # one more rounding; the floor is four


def test_a_step_may_take_many_samples_at_once() -> None:
    found = results(recorded(normalise, crop))

    assert found["normalise on stacked samples"] == (0.0, "")
    assert found["crop on stacked samples"] == (None, "differs at sample 0 by step crop")


def test_a_step_that_looks_at_the_whole_batch_is_not_batched() -> None:
    found = results(recorded(convert, by_largest))

    assert found["by_largest on stacked samples"][1] == "differs at sample 4, which is made up, by step by_largest"


def test_only_what_comes_before_the_first_random_step_is_kept() -> None:
    recording = recorded(convert, normalise, crop, flip, normalise)

    assert recording.random == {3}
    kept = "keep what convert, normalise and crop made (768 bytes a sample), from the second epoch on"
    assert results(recording)[kept] == (0.0, "")


@pytest.mark.parametrize("step", [flip, torch_noise])
def test_a_step_that_draws_random_numbers_is_neither_kept_nor_batched(step: Callable[[Any], Any]) -> None:
    recording = recorded(step)

    assert recording.random == {0}
    assert list(rewrites(recording)) == []


def test_a_step_with_a_generator_of_its_own_is_unsteady() -> None:
    generator = np.random.default_rng(0)

    assert recorded(convert, lambda picture: picture + generator.random()).unsteady == {1}


def test_a_step_that_writes_on_what_it_is_given_does_no_harm() -> None:
    def add(picture: Pixels) -> Pixels:
        picture += 1
        return picture

    samples = [np.zeros((64, 64)) for _ in range(3)]
    recording = recorded(add, crop, samples=samples)

    assert not any(sample.any() for sample in samples)
    assert all(found == (0.0, "") for text, found in results(recording).items() if "crop" not in text.split(" on ")[0])


def test_a_step_that_fails_is_named() -> None:
    def broken(picture: Pixels) -> Pixels:
        raise KeyError("label")

    with pytest.raises(Unsupported, match="the step broken failed: KeyError"):
        recorded(convert, broken)


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), 0.0),
        (np.float32([1, 2]), np.float64([1, 2]), None),
        (np.float32([1, 2]), np.float32([1, 2.1]), None),
        (np.float32([1, np.nan]), np.float32([1, np.nan]), 0.0),
        (np.int64([1]), np.int64([2]), None),
        ({"a": 1}, {"b": 1}, None),
        ([np.zeros(2)], (np.zeros(2),), None),
    ],
)
def test_how_far_results_are_apart(ours: Any, theirs: Any, expected: float | None) -> None:
    assert apart(ours, theirs) == expected


def test_zeros_of_either_sign_are_not_the_same_bits() -> None:
    found = apart(np.float32([1, 0.0]), np.float32([1, -0.0]))

    assert found is not None
    assert 0 < found < 1e-6
