"""Steps that follow from a plan: what each is given, and what it may use."""

from __future__ import annotations

import pytest

from regraft.workflow.derive import derive_steps
from regraft.workflow.plan_file import parse_plan
from regraft.workflow.steps import Given, Made, Step, dependencies

_PLAN = """\
schema: regraft.plan/1
task: text-classification
data: reviews.csv
candidates: [one, two, three]
targets: [onnxruntime, openvino]
"""


def steps(text: str) -> dict[str, Step]:
    return {step.name: step for step in derive_steps(parse_plan(text.encode()))}


@pytest.mark.parametrize(("limits", "candidate_s"), [("limits: {time: 40 s}\n", 40.0), ("", 900.0)])
def test_a_candidate_that_hangs_leaves_time_for_the_others(limits: str, candidate_s: float) -> None:
    select = steps(_PLAN + limits)["select"]
    assert select.arguments["time_limit_s"] == Given(candidate_s)
    # three that hang, and as much again for the folds and curves
    assert select.resources.time_s == 4 * candidate_s


@pytest.mark.parametrize("task", ["text-classification", "image-classification"])
def test_conversions_are_compared_on_held_out_rows(task: str) -> None:
    verify = steps(_PLAN.replace("text-classification", task))["verify openvino"]
    feeds = verify.arguments["feeds"]
    assert isinstance(feeds, Made)
    assert "held_out" in feeds.function
    assert feeds.arguments["seed"] == Given(0)
    assert {"data", "adapt", "convert openvino"} <= dependencies(verify)
