"""Parts of a plan as arguments: what changes a step, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.record.policy import Policy
from regraft.workflow.plan import Plan
from regraft.workflow.plan_arguments import (
    budget_arguments,
    constraints_argument,
    device_budget,
    inline_policy,
    policy_argument,
)
from regraft.workflow.plan_file import parse_plan
from regraft.workflow.steps import File, Given, Made

_PLAN = """\
schema: regraft.plan/1
task: text-classification
data: reviews.csv
candidates: [model]
device: {latency_p95: 20 ms}
"""
_POLICY = """\
evidence:
  verify: {verdict: pass}
  scan: {max_severity: low}
licences: [MIT]
"""


def plan_with(policy: str) -> Plan:
    inner = "".join(f"  {line}\n" for line in policy.splitlines())
    return parse_plan(f"{_PLAN}policy:\n{inner}".encode())


def constraints(policy: str) -> Policy:
    argument = constraints_argument(plan_with(policy))
    assert isinstance(argument, Made)
    value = argument.arguments["value"]
    assert isinstance(value, Given)
    return inline_policy(value.value)


def test_candidates_must_meet_what_can_be_known_of_them() -> None:
    found = constraints(_POLICY)
    assert [demand.kind for demand in found.demands] == ["scan"]
    assert found.licences == ("MIT",)


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("verify: {verdict: pass}", "verify: {verdict: [pass, inconclusive]}", True),
        ("  verify: {verdict: pass}\n", "", True),  # and the other demand is on another line
        ("max_severity: low", "max_severity: medium", False),
        ("[MIT]", "[MIT, Apache-2.0]", False),
    ],
)
def test_only_such_demands_change_what_candidates_must_meet(old: str, new: str, is_same: bool) -> None:
    assert old in _POLICY
    assert (constraints(_POLICY.replace(old, new)) == constraints(_POLICY)) is is_same


def test_a_policy_file_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("schema: regraft.policy/1\nlicences: [MIT]\n")
    plan = parse_plan(f"{_PLAN}policy: policy.yaml\n".encode(), path=tmp_path / "reuse.yaml")
    assert policy_argument(plan) == File(tmp_path / "policy.yaml")


def test_budget_and_policy_are_the_same_after_the_journey() -> None:
    plan = plan_with(_POLICY)
    assert plan.device is not None
    assert plan.policy is not None
    made = policy_argument(plan)
    assert isinstance(made, Made)
    value = made.arguments["value"]
    assert isinstance(value, Given)
    assert inline_policy(value.value) == plan.policy.policy
    (budget,) = budget_arguments(plan).values()
    assert isinstance(budget, Made)
    told = budget.arguments["value"]
    assert isinstance(told, Given)
    assert device_budget(told.value) == plan.device
