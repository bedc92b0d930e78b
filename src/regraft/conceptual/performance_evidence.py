"""replicate --profile: the speed of two networks as findings and measurements of evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.conceptual.performance import Comparison, compare_passes, compare_speed
from regraft.errors import Unsupported
from regraft.record.evidence import JSON, Draft, Finding, Severity, Where
from regraft.runtime.feeding import feeds_for
from regraft.runtime.onnxruntime_profile import Kernels, kernel_times

if TYPE_CHECKING:
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Model
    from regraft.runtime.quantiles import Quantile
    from regraft.runtime.torch_module import TorchModel

_LISTED = 10
"""Modules with a measurement of their own: those in which the candidate loses most."""
_RECORDED = ("trace",)
_ORDINARY = ("data", "normal", "uniform")


def add_speed_profile(
    draft: Draft, reference: Model, candidate: Model, cases: Sequence[FeedCase], *, inputs: Mapping[str, str]
) -> None:
    """Time two networks on the largest inputs that both accept: eager ones of torch by module, others as a whole.

    Of a network of ONNX Runtime it is told in which scopes its own time goes. No verdict depends on how fast they are.

    Args:
        draft: of the verb.
        reference, candidate: loaded models.
        cases: that both accept, by the reference's names.
        inputs: reference's input → candidate's.
    Raises:
        Unsupported: one is a recording, there is no case, or a pass fails.
    """
    for model in (reference, candidate):
        if model.runtime in _RECORDED:
            raise Unsupported(f"a model of {model.runtime} takes no time of its own", where=model.where)
    if not cases:
        raise Unsupported("there are no feeds on which both models run", hint="give inputs that both take: --feeds")
    case = _largest(cases)
    ours, theirs = _eager(reference), _eager(candidate)
    if ours is None or theirs is None:
        _add_whole(draft, reference, candidate, case, inputs)
        return
    fed = {inputs[name]: value for name, value in case.feeds.items() if name in inputs}
    keywords = (_tensors(reference, case.feeds), _tensors(candidate, fed))
    with _threads(ours.threads):
        found = compare_speed(ours.module, theirs.module, (), keywords=keywords)
    _add(draft, found, case.name)


def _eager(model: Model) -> TorchModel | None:
    from regraft.runtime.torch_module import TorchModel

    return model if isinstance(model, TorchModel) and model.runtime == "torch" else None


def _add_whole(draft: Draft, reference: Model, candidate: Model, case: FeedCase, inputs: Mapping[str, str]) -> None:
    """Passes in turns, arrays in and arrays out; what runs inside is seen in ONNX Runtime alone."""
    ours = feeds_for(reference, case.feeds)
    theirs = feeds_for(candidate, {inputs[name]: value for name, value in case.feeds.items() if name in inputs})
    found = compare_passes(lambda: reference(ours), lambda: candidate(theirs))
    ratio = found.ratio
    _measure(draft, ratio, found.reference_ms, found.candidate_ms, case.name)
    sides = {"reference": (reference, ours), "candidate": (candidate, theirs)}
    listed = {side: _scopes(draft, side, *pair) for side, pair in sides.items()}
    is_slower = ratio.low is not None and ratio.low > 1
    told = f"the candidate takes {ratio.value:.2f} times as long"
    told += "" if is_slower else ", which does not show it to be slower"
    whole = " and ".join(dict.fromkeys(model.runtime for side, (model, _) in sides.items() if not listed[side]))
    parts = [f"{side}: {_most(scopes)}" for side, scopes in listed.items() if scopes]
    parts += [f"{whole} is only timed as a whole"] if whole else []
    pairs = f"(interval {ratio.low:.2f} to {ratio.high:.2f}, {ratio.n} pairs of passes on {case.name})"
    message = f"{told} {pairs}; {'; '.join(parts)}"
    data: dict[str, JSON] = {side: [msgspec.to_builtins(one) for one in scopes] for side, scopes in listed.items()}
    draft.find(Finding("replicate.profile", Severity.INFO, message, data=data))


def _scopes(draft: Draft, side: str, model: Model, feeds: Mapping[str, Any]) -> list[Kernels]:
    """Where a network's own time goes; empty where its runtime does not say."""
    if type(model).__name__ != "OnnxRuntimeModel":
        return []
    any_model: Any = model
    try:
        found = kernel_times(any_model, feeds)
    except Unsupported:
        return []
    for one in found[:_LISTED]:
        draft.measure("scope_time", one.ms, "ms", of={"side": side, "scope": one.scope})
    return found


def _most(scopes: Sequence[Kernels]) -> str:
    total = sum(one.ms for one in scopes)
    return (
        f"{scopes[0].ms / total:.0%} of the time in its kernels is in {scopes[0].scope}"
        if total
        else "no kernel takes time"
    )


def _measure(draft: Draft, ratio: Quantile, reference_ms: float, candidate_ms: float, case: str) -> None:
    draft.measure("pass_ratio", ratio.value, "1", low=ratio.low, high=ratio.high, n=ratio.n, of={"feeds": case})
    for side, taken in (("reference", reference_ms), ("candidate", candidate_ms)):
        draft.measure("pass_wall", taken, "ms", of={"side": side})


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
    _measure(draft, ratio, found.reference_ms, found.candidate_ms, case)
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
