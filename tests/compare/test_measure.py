"""Floors of the reference's own runs."""

from __future__ import annotations

import numpy as np
from tests.compare.conftest import Network, wrapped

from regraft.compare.deviation import deviation
from regraft.compare.measure import RUNS_OF_FEW, Yardstick


def test_outputs_of_a_few_numbers_have_the_largest_floor_of_several_runs(network: Network) -> None:
    """A single number is hit exactly by one run in a few; the largest of five runs is not."""
    model = wrapped(network)
    random = np.random.default_rng(0)
    feeds = [{"x": random.normal(size=(rows, 12)).astype(np.float32)} for rows in (1, 1, 40)]
    yardstick = Yardstick(model, feeds[0])
    assert yardstick.method == "float64"
    answers = list(yardstick.answers(feeds))
    for one, answer in zip(feeds, answers, strict=True):
        (name,) = answer.truth
        plain = deviation(model(one)[name], answer.truth[name])
        own = answer.own["float32"][name]
        if one["x"].shape[0] == 1:
            assert plain.rms <= own.rms < 30 * RUNS_OF_FEW * plain.scale_rms * 2**-24, "a few roundings, not more"
            assert own.peak >= plain.peak
        else:
            assert own == plain, "160 numbers speak for themselves"
    assert any(a.own["float32"][n].rms > deviation(model(f)[n], a.truth[n]).rms
               for f, a in zip(feeds[:2], answers, strict=False) for n in a.truth)  # fmt: skip
