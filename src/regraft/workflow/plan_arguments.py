"""What parts of a plan are as arguments of steps."""

from __future__ import annotations

import msgspec

from regraft.adaptation.constraints import KINDS
from regraft.deployment.budget import DeviceBudget
from regraft.record.digest import digest_bytes
from regraft.record.evidence import JSON
from regraft.record.policy import Policy
from regraft.workflow.plan import Plan, PlannedData, PlanTask
from regraft.workflow.steps import Argument, File, Given, Made, Named, Setting, StoreHere

DATA_STEP = "data"
"""Name of the step that fetches the data."""
_COMPARED_TEXTS = 64
_COMPARED_PICTURES = 32


def data_argument(data: PlannedData) -> Argument:
    """Labelled rows."""
    fields: dict[str, Argument] = {
        "ref": Named(data.ref, DATA_STEP),
        "text": Given(data.text),
        "label": Given(data.label),
        "where": Given({**data.where}),
        "labels": Given({**data.labels}),
        "learn": Given(data.learn),
        "held_out": Given(data.held_out),
    }
    return Made("regraft.adaptation.data:DataSpec", fields)


def held_out_argument(plan: Plan, data: PlannedData, adapted: Argument, *, offline: bool) -> Argument:
    """Rows that the model was not made from, as inputs to compare on: what it will see.

    Args:
        adapted: the package that the model is; it says how pictures are prepared.
    """
    fields: dict[str, Argument] = {
        "data": data_argument(data),
        "count": Given(_COMPARED_TEXTS),
        "seed": Given(plan.seed),
        "store": StoreHere(),
        "offline": Setting(offline),
    }
    if plan.task is PlanTask.IMAGE_CLASSIFICATION:
        pictures: dict[str, Argument] = {"package": adapted, "count": Given(_COMPARED_PICTURES)}
        return Made("regraft.workflow.held_out:held_out_pictures", fields | pictures)
    return Made("regraft.workflow.held_out:held_out_texts", fields)


def budget_arguments(plan: Plan) -> dict[str, Argument]:
    """The limits of the device, if there are any."""
    if plan.device is None:
        return {}
    return {"budget": Made(f"{__name__}:device_budget", {"value": Given(_plain(plan.device))})}


def policy_argument(plan: Plan) -> Argument:
    """The policy: a file counts by its content."""
    assert plan.policy is not None
    if plan.policy.path is not None:
        return File(plan.policy.path)
    return _inline(plan.policy.policy)


def constraints_argument(plan: Plan) -> Argument:
    """That part of the policy which candidates must meet: what is demanded of the result does not change the choice."""
    assert plan.policy is not None
    whole = plan.policy.policy
    kept = [msgspec.structs.replace(demand, line=None) for demand in whole.demands if demand.kind in KINDS]
    part = msgspec.structs.replace(whole, demands=tuple(kept))
    digest = digest_bytes(msgspec.json.encode([part.demands, part.licences]))
    return _inline(msgspec.structs.replace(part, digest=digest))


def device_budget(value: JSON) -> DeviceBudget:
    """A budget as it was before it travelled to another process."""
    return msgspec.convert(value, DeviceBudget)


def inline_policy(value: JSON) -> Policy:
    """A policy as it was before it travelled to another process."""
    return msgspec.convert(value, Policy)


def _inline(policy: Policy) -> Argument:
    return Made(f"{__name__}:inline_policy", {"value": Given(_plain(policy))})


def _plain(value: msgspec.Struct) -> JSON:
    """A struct as the JSON that travels to another process."""
    plain: JSON = msgspec.json.decode(msgspec.json.encode(value))
    return plain
