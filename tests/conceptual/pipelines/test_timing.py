"""Who is timed on what; how long it took is not judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regraft.conceptual.pipelines.timing import ROUNDS, time_pipelines
from regraft.conceptual.stages.interface import Step
from regraft.errors import Unsupported

SAMPLES = [np.full(4, float(i)) for i in range(3)]


def test_every_step_of_both_has_its_times_and_its_share() -> None:
    found = time_pipelines([Step("scale", lambda x: x / 2)], [Step("copy", np.copy), Step("sort", np.sort)], SAMPLES)

    assert [step.name for step in found.reference] == ["scale"]
    assert [step.name for step in found.candidate] == ["copy", "sort"]
    assert sum(step.share for step in found.candidate) == pytest.approx(1)
    for step in (*found.reference, *found.candidate):
        assert step.wall_ms.n == ROUNDS
        assert step.wall_ms.low is not None
        assert step.wall_ms.high is not None
        assert 0 < step.wall_ms.low <= step.wall_ms.value <= step.wall_ms.high


def test_both_take_turns_on_the_same_samples() -> None:
    seen: list[tuple[str, float]] = []

    def noting(side: str) -> Step:
        def run(x: Any) -> Any:
            seen.append((side, float(x[0])))
            return x

        return Step(side, run)

    time_pipelines([noting("reference")], [noting("candidate")], SAMPLES)

    timed = seen[-2 * 3 * ROUNDS :]
    pairs = list(zip(timed[::2], timed[1::2], strict=True))
    assert all(first[1] == second[1] and first[0] != second[0] for first, second in pairs)
    assert len({first[0] for first, _ in pairs}) == 2


def test_a_step_that_fails_is_named() -> None:
    with pytest.raises(Unsupported, match="the step broken failed: TypeError"):
        time_pipelines([Step("broken", lambda x: x + None)], [Step("copy", np.copy)], SAMPLES)
