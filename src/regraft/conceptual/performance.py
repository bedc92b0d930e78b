"""Why one implementation is slower than another: passes that take turns, then operators by module."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported
from regraft.runtime.measure import warm_up
from regraft.runtime.quantiles import Quantile, quantile

if TYPE_CHECKING:
    from torch import nn

COPIES = ("clone", "copy_", "_to_copy", "contiguous")
ATTENTION = "scaled_dot_product"
ROUNDS = 20
"""Pairs of passes."""
_WARM_UP_S = 2.0
_MANY = 4
"""Times as many calls of an operator in a module as in the reference's are a loop."""
_SHARE = 0.1
"""Of the candidate's time in a module that copies must take to be a cause."""


class Call(msgspec.Struct, frozen=True):
    """One operator in one pass.

    Attributes:
        scope: module that calls it; empty for the network itself.
        operator: its name, without overload.
        ms: wall time.
        dtype: of its first result.
        key: operator and the tensors that it took, by identity and version: equal keys compute equal things.
    """

    scope: str
    operator: str
    ms: float
    dtype: str
    key: tuple[Any, ...]


class Block(msgspec.Struct, frozen=True):
    """One module of both, or the module of one.

    Attributes:
        name: of the module.
        reference_ms, candidate_ms: median over rounds of the time in its own operators.
        share: of the time that the candidate takes longer in all modules that it is slower in; 0 where it is not.
        causes: what its operators show; empty where they are as many and of one kind.
    """

    name: str
    reference_ms: float
    candidate_ms: float
    share: float
    causes: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True):
    """Two implementations on the same inputs.

    Attributes:
        ratio: candidate's time over the reference's, median over pairs of passes, with its interval.
        reference_ms, candidate_ms: medians of whole passes, without instruments.
        blocks: those in which the candidate loses most come first.
    """

    ratio: Quantile
    reference_ms: float
    candidate_ms: float
    blocks: tuple[Block, ...]

    @property
    def summary(self) -> str:
        """In one sentence."""
        told = f"the candidate takes {self.ratio.value:.2f} times as long"
        slow = next((block for block in self.blocks if block.share > 0), None)
        if slow is None:
            return told
        because = f", because of {'; '.join(slow.causes)}" if slow.causes else ""
        return f"{told}; {slow.share:.0%} of what it loses is in {slow.name or 'the network itself'}{because}"


class Passes(msgspec.Struct, frozen=True):
    """Two implementations, timed as a whole.

    Attributes:
        ratio: candidate's time over the reference's, median over pairs of passes, with its interval.
        reference_ms, candidate_ms: medians of passes, arrays in and arrays out.
    """

    ratio: Quantile
    reference_ms: float
    candidate_ms: float


def compare_passes(reference: Callable[[], object], candidate: Callable[[], object], *, rounds: int = ROUNDS) -> Passes:
    """Time passes of two networks in turns, whatever runs them.

    Args:
        reference, candidate: one pass each.
        rounds: pairs of passes; the order changes from pair to pair, so that drift and caches favour neither.
    """
    for run in (reference, candidate):
        warm_up(run, max_s=_WARM_UP_S)
    times = _in_turns((reference, candidate), rounds)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return Passes(quantile([theirs / ours for ours, theirs in times], 0.5), medians[0], medians[1])


def compare_speed(
    reference: nn.Module,
    candidate: nn.Module,
    inputs: Sequence[Any],
    *,
    keywords: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    rounds: int = ROUNDS,
    traced: int = 5,
) -> Comparison:
    """Time two torch networks in turns, then operator by operator.

    Args:
        reference, candidate: in the mode that is to be timed; modules are paired by name.
        inputs: positional arguments of both.
        keywords: keyword arguments of each.
        rounds: pairs of passes; the order changes from pair to pair, so that drift and caches favour neither.
        traced: pairs of passes with every operator timed, which slows small ones: only their differences are used.
    Raises:
        Unsupported: a pass fails.
    """
    import torch

    networks = (reference, candidate)
    runs = [_run(networks[i], inputs, keywords[i], who) for i, who in enumerate(("reference", "candidate"))]
    with torch.no_grad():
        whole = compare_passes(*runs, rounds=rounds)
        calls = [[list(_calls(networks[i], inputs, keywords[i])) for i in (0, 1)] for _ in range(traced)]
    return Comparison(whole.ratio, whole.reference_ms, whole.candidate_ms, _blocks(calls))


def _run(network: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any], who: str) -> Callable[[], object]:
    def run() -> object:
        try:
            return network(*inputs, **keywords)
        except (RuntimeError, TypeError, ValueError) as error:
            raise Unsupported(f"a pass fails: {error}", where=who) from error

    return run


def _in_turns(runs: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    found = []
    for count in range(rounds):
        taken = [0.0, 0.0]
        for side in (0, 1) if count % 2 == 0 else (1, 0):
            began = time.perf_counter()
            runs[side]()
            taken[side] = (time.perf_counter() - began) * 1e3
        found.append((taken[0], taken[1]))
    return found


def _calls(network: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Iterator[Call]:
    """The operators of one pass, timed one by one."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    stack: list[str] = []
    made: list[Call] = []
    kept: list[Any] = []  # a tensor that lives keeps its identity

    class Timed(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            tensors = [one for one in args if isinstance(one, torch.Tensor)]
            others = tuple(repr(one) for one in args if not isinstance(one, torch.Tensor | list | tuple))
            key = (str(func), *((id(one), one._version) for one in tensors), others, str(kwargs))
            began = time.perf_counter()
            result = func(*args, **(kwargs or {}))
            taken = (time.perf_counter() - began) * 1e3
            first = result[0] if isinstance(result, tuple | list) and result else result
            kept.extend((tensors, result))
            name = func._schema.name.removeprefix("aten::")
            made.append(Call(stack[-1] if stack else "", name, taken, str(getattr(first, "dtype", ""))[6:], key))
            return result

    hooks = []
    for name, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda _, __, name=name: stack.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        with Timed():  # type: ignore[no-untyped-call]
            network(*inputs, **keywords)
    finally:
        for hook in hooks:
            hook.remove()
    yield from made


def _blocks(calls: Sequence[Sequence[Sequence[Call]]]) -> tuple[Block, ...]:
    times = [[_by_scope(side) for side in pair] for pair in calls]
    scopes = list(dict.fromkeys(scope for pair in times for side in pair for scope in side))
    medians = {
        scope: [statistics.median(pair[side].get(scope, 0.0) for pair in times) for side in (0, 1)] for scope in scopes
    }
    lost = {scope: max(0.0, theirs - ours) for scope, (ours, theirs) in medians.items()}
    total = sum(lost.values())
    last = [_of_scopes(side) for side in calls[-1]]
    blocks = [
        Block(
            scope, ours, theirs, lost[scope] / total if total else 0.0,
            tuple(causes(last[0].get(scope, []), last[1].get(scope, []))),
        )
        for scope, (ours, theirs) in medians.items()
    ]  # fmt: skip
    return tuple(sorted(blocks, key=lambda block: -block.share))


def _by_scope(calls: Sequence[Call]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for call in calls:
        found[call.scope] += call.ms
    return dict(found)


def _of_scopes(calls: Sequence[Call]) -> Mapping[str, list[Call]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.scope].append(call)
    return found


def causes(reference: Sequence[Call], candidate: Sequence[Call]) -> Iterator[str]:
    """What the candidate's operators in a module show that the reference's do not.

    Args:
        reference, candidate: calls of the module in one pass.
    """
    ours, theirs = (Counter(call.operator for call in side) for side in (reference, candidate))
    wide = [sum(call.dtype == "float64" for call in side) for side in (reference, candidate)]
    if wide[1] > wide[0]:
        yield f"float64 in {wide[1]} operators"
    fused = [any(ATTENTION in name for name in side) for side in (ours, theirs)]
    if fused == [True, False] and any("softmax" in name for name in theirs):
        yield "attention that is not fused"
    many = {name: count for name, count in theirs.items() if count >= _MANY * max(1, ours.get(name, 0))}
    if many:
        name = max(many, key=lambda one: many[one])
        yield f"a loop: {name} is called {many[name]} times, in the reference {ours.get(name, 0)}"
    repeated = [_repeated(side) for side in (reference, candidate)]
    if repeated[1] > repeated[0]:
        yield f"{repeated[1]} operators that were computed before, from the same tensors"
    copied = [sum(call.ms for call in side if call.operator in COPIES) for side in (reference, candidate)]
    total = sum(call.ms for call in candidate)
    if total and copied[1] - copied[0] > _SHARE * total:
        yield f"copies: {copied[1] / total:.0%} of its time"


def _repeated(calls: Sequence[Call]) -> int:
    return sum(count - 1 for count in Counter(call.key for call in calls).values())
