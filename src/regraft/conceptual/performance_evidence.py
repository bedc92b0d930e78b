"""replicate --profile: the speed of two networks as findings and measurements of evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.performance import Comparison, compare_speed
from regraft.errors import Unsupported
from regraft.record.evidence import JSON, Draft, Finding, Severity, Where

if TYPE_CHECKING:
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Model
    from regraft.runtime.torch_module import TorchModel

_LISTED = 10
"""Modules with a measurement of their own: those in which the candidate loses most."""
_ORDINARY = ("data", "normal", "uniform")


def add_speed_profile(
    draft: Draft, reference: Model, candidate: Model, cases: Sequence[FeedCase], *, inputs: Mapping[str, str]
) -> None:
    """Time two eager torch networks on the largest inputs that both accept.

    No verdict depends on how fast they are.

    Args:
        draft: of the verb.
        reference, candidate: loaded models.
        cases: that both accept, by the reference's names.
        inputs: reference's input → candidate's.
    Raises:
        Unsupported: one is no eager torch network, there is no case, or a pass fails.
    """
    ours, theirs = _eager(reference), _eager(candidate)
    if not cases:
        raise Unsupported("there are no feeds on which both models run", hint="give inputs that both take: --feeds")
    case = _largest(cases)
    keywords = (_tensors(reference, case.feeds), _tensors(candidate, {inputs[k]: v for k, v in case.feeds.items()}))
    with _threads(ours.threads):
        found = compare_speed(ours.module, theirs.module, (), keywords=keywords)
    _add(draft, found, case.name)


def _eager(model: Model) -> TorchModel:
    from regraft.runtime.torch_module import TorchModel

    if isinstance(model, TorchModel) and model.runtime == "torch":
        return model
    raise Unsupported(
        f"{model.runtime} has no modules to be timed", where=model.where, hint="regraft bench times any runtime"
    )


def _largest(cases: Sequence[FeedCase]) -> FeedCase:
    """Of ordinary values where there are such: zeros and denormal numbers take another time."""
    ordinary = [case for case in cases if case.values in _ORDINARY]
    return max(ordinary or cases, key=lambda case: sum(array.size for array in case.feeds.values()))


def _tensors(model: Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    from regraft.runtime.torch_tensors import tensor_from_array

    return {port.name: tensor_from_array(feeds[port.name], port.dtype) for port in model.signature.inputs}


@contextlib.contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _add(draft: Draft, found: Comparison, case: str) -> None:
    ratio = found.ratio
    draft.measure("pass_ratio", ratio.value, "1", low=ratio.low, high=ratio.high, n=ratio.n, of={"feeds": case})
    for side, taken in (("reference", found.reference_ms), ("candidate", found.candidate_ms)):
        draft.measure("pass_wall", taken, "ms", of={"side": side})
    slow = [block for block in found.blocks if block.share > 0]
    is_slower = ratio.low is not None and ratio.low > 1
    told, where = f"the candidate takes {ratio.value:.2f} times as long, which does not show it to be slower", Where()
    if is_slower and slow:
        told, where = found.summary, Where(field=slow[0].name)
        for block in slow[:_LISTED]:
            draft.measure("module_lost", block.candidate_ms - block.reference_ms, "ms",
                          of={"module": block.name, "share": block.share})  # fmt: skip
    listed: list[JSON] = [
        {"module": block.name, "reference_ms": block.reference_ms, "candidate_ms": block.candidate_ms,
         "share": block.share, "causes": list(block.causes)}
        for block in slow
    ]  # fmt: skip
    message = f"{told} (interval {ratio.low:.2f} to {ratio.high:.2f}, {ratio.n} pairs of passes on {case})"
    draft.find(Finding("replicate.profile", Severity.INFO, message, where, {"modules": listed}))
