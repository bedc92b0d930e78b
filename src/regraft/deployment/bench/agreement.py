"""What a gain in speed costs: the error of one model against another, in noise floors of that other one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.judge import threshold
from regraft.compare.measure import OutputSeries, Yardstick, measured
from regraft.compare.noise import least_floor, ratios, unit_roundoff
from regraft.compare.pairing import pair_inputs, pair_outputs
from regraft.deployment.bench.messages import Agreed, Start
from regraft.deployment.bench.passes import DEFAULT_TEXTS
from regraft.deployment.loading import LoadRequest, Opened, opened
from regraft.deployment.trial import accepted_feeds
from regraft.errors import BadFeeds, Unsupported, UsageError
from regraft.record.permit import Permit
from regraft.record.store import open_store
from regraft.runtime.feeds import FeedCase

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Feeds, Model

_PRECISION = "float32"
"""Whose floors the errors are given in, also those of coarser candidates: so that they can be compared."""
_MOST = 6
"""Passes that are compared: a verdict is the business of `verify`, this is a number beside a latency."""


class Agreement:
    """A reference that stays loaded, and how far others are from it.

    Args:
        reference: what counts as right.
    Raises:
        Unsupported: it cannot be loaded.
    """

    def __init__(self, reference: Start) -> None:
        self._start = reference
        self._open = contextlib.ExitStack()
        self._reference = self._open.enter_context(opened(reference.ref, _request(reference)))
        if self._reference.model is None:
            raise Unsupported(f"the reference cannot be loaded: {self._reference.error}")

    def of(self, candidate: Start) -> Agreed:
        """The error at the worst output over a few passes.

        Raises:
            Unsupported: it cannot be loaded, or takes or returns something else.
        """
        reference = self._reference.model
        assert reference is not None
        with opened(candidate.ref, _request(candidate)) as theirs:
            if theirs.model is None:
                raise Unsupported(f"it cannot be loaded: {theirs.error}")
            inputs = pair_inputs(reference.signature.inputs, theirs.model.signature.inputs, theirs.model.where)
            feeds = [case.feeds for case in self._cases(theirs.model, inputs.names)]
            return self._agreed(reference, theirs.model, feeds, inputs.names)

    def _cases(self, candidate: Model, inputs: dict[str, str]) -> Sequence[FeedCase]:
        """The user's data, or texts where the package has a tokenizer; made-up values otherwise."""
        try:
            cases, _ = accepted_feeds(
                self._reference, candidate, self._given(self._reference), inputs=inputs, seed=self._start.seed
            )
        except UsageError:  # no tokenizer that is data
            cases, _ = accepted_feeds(self._reference, candidate, None, inputs=inputs, seed=self._start.seed)
        if not cases:
            raise BadFeeds("the two take no inputs in common")
        own = [case for case in cases if case.values == "data"]
        return (own or cases)[:_MOST]

    def _given(self, reference: Opened) -> Path | list[str] | None:
        if self._start.feeds_file is not None:
            return Path(self._start.feeds_file)
        assert reference.model is not None
        takes_ids = "input_ids" in [port.name for port in reference.model.signature.inputs]
        return list(self._start.texts or DEFAULT_TEXTS) if takes_ids and reference.package is not None else None

    def _agreed(self, reference: Model, candidate: Model, feeds: Sequence[Feeds], inputs: dict[str, str]) -> Agreed:
        yardstick = Yardstick(reference, feeds[0], precisions=(_PRECISION,), seed=self._start.seed)
        answers = list(yardstick.answers(feeds))
        from regraft.runtime.feeding import feeds_for

        theirs = {inputs[name]: value for name, value in feeds[0].items() if name in inputs}
        outputs = pair_outputs(
            reference(feeds_for(reference, feeds[0])), candidate(feeds_for(candidate, theirs)), candidate.where
        )
        series = measured(answers, candidate, feeds, inputs=inputs, outputs=outputs.names)
        limits = threshold(yardstick.method, _PRECISION)
        return _worst(series, limits.benign_rms)


def _worst(series: Sequence[OutputSeries], benign: float) -> Agreed:
    found: list[tuple[float, float, str]] = []
    for one in series:
        own = one.own[_PRECISION]
        if any(theirs.incomparable for theirs in one.candidate):
            raise Unsupported(f"output {one.name!r} is finite in one of the two only")
        errors = ratios(one.candidate, own, unit=unit_roundoff(_PRECISION), smallest=least_floor(own, _PRECISION))
        relative = max(theirs.relative for theirs in one.candidate)
        found.append((max(ratio.rms for ratio in errors), relative, one.name))
    floors, relative, name = max(found)
    flips = sum(some.flips for one in series for some in one.decisions)
    count = sum(some.n for one in series for some in one.decisions)
    return Agreed(floors, benign, relative, flips, count, name, len(series[0].candidate))


def _request(start: Start) -> LoadRequest:
    return LoadRequest(
        runtime=start.runtime,
        threads=start.threads,
        precision=start.precision,
        store=open_store(Path(start.store)) if start.store else None,
        offline=start.offline,
        permit=_Leave(start.permit, start.code_loader),
    )


class _Leave(msgspec.Struct, frozen=True):
    """Leave that was given already. See `runtime.permission.PermitSource`."""

    permit: Permit | None
    code_loader: str

    def __call__(self, package: Package, runtime: str | None) -> Permit | None:
        return self.permit
