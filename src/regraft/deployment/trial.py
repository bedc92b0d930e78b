"""The feeds of one verification: what the user gives, and what is made up from the signatures of both models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.compare.recall import recalled
from regraft.errors import BadFeeds, RegraftError, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.runtime.feed_files import feeds_from_file
from regraft.runtime.feeds import FLOAT_VALUES, INTEGER_VALUES, SIZES, FeedCase, generated_feeds, text_feeds
from regraft.runtime.hard_texts import string_cases
from regraft.runtime.interface import Signature
from regraft.runtime.text_model import takes_texts

if TYPE_CHECKING:
    from regraft.deployment.loading import Opened
    from regraft.runtime.interface import Array, Feeds, Model
    from regraft.runtime.text import TextEncoder

Refusal: TypeAlias = tuple[FeedCase, str, RegraftError]
"""A case, the role of the model that refused it (`reference` or `candidate`), and how."""
_HEAVY_ELEMENTS = 50_000
_HEAVY_SIZES = (1, 2)
_HEAVY_VALUES = ("normal", "uniform", "zeros", "large", "padded")
"""Of inputs with many elements a sample, as images: fewer passes, the kinds that differ most, and those on one row
where no mask wants a second."""
_BEYOND_COARSE = "large"
"""Values that coarse precisions cannot be judged on: float16 overflows, and saturated gates flip by rounding alone."""
_COARSE = 2.0**-12
_FEEDS = "feeds are arrays by name, a list of them, a list of texts, or the path of a file"
_LARGER = ((), (64, 32, 96), (320, 224, 256))
"""Sizes of every dimension but the first, to go on with where smaller ones are refused: networks that halve their
input five times want multiples of 32, detectors and spectrograms more."""


def accepted_feeds(
    reference: Opened,
    candidate: Model,
    given: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    *,
    inputs: Mapping[str, str],
    precision: str = "float32",
    seed: int,
) -> tuple[list[FeedCase], list[Refusal]]:
    """Cases to compare two models on: the user's own first, then made-up ones, in larger sizes where small are refused.

    Args:
        reference: its model's signature says what is legal.
        candidate: dimensions that it fixes are tried at that size only.
            When one of the two is a trace, the feeds that it was recorded with are all that can be tried.
        given: arrays by input name, several such, texts, or a file of arrays.
        inputs: reference's input → candidate's.
        precision: that the candidate is judged by.
        seed: of what is made up.
    Returns:
        the cases that both accept, and the others with the model that refused them.
    Raises:
        UsageError, BadFeeds: what the user gave does not fit, or the reference takes none of it.
        Unsupported: nothing was given, and the signature does not say enough to make something up.
    """
    assert reference.model is not None
    recorded = _recorded(reference.model, candidate, inputs)
    own = recorded if recorded else _given(reference, given)
    accepted, refused = runnable(own, reference.model, candidate, inputs=inputs)
    if recorded is not None:
        return accepted, refused
    if own and not accepted:
        _refuse(refused)
    signature = reference.model.signature
    if takes_texts(reference.model):
        made = list(string_cases(signature.inputs[0].name))
        found, not_found = runnable(made, reference.model, candidate, inputs=inputs)
        return accepted + found, refused + not_found
    fixed = _fixed_sizes(signature, candidate.signature, inputs)
    for larger in _LARGER if _grows(signature, fixed) else _LARGER[:1]:
        try:
            made = list(_generated(signature, fixed, seed, precision, larger))
        except Unsupported:
            if not own:
                raise
            made = _other_values(own[0], seed, precision)
        found, not_found = runnable(made, reference.model, candidate, inputs=inputs)
        accepted, refused = accepted + found, refused + not_found
        if found and not not_found:
            break
    return accepted, refused


def _refuse(refused: Sequence[Refusal]) -> None:
    """Inputs of the user's own that the reference does not take are a mistake, not an answer."""
    for case, who, error in refused:
        if who == "reference":
            raise BadFeeds(f"the reference does not take {case.name}: {error.what}", where=error.where, hint=error.hint)


def runnable(
    cases: Sequence[FeedCase], reference: Model, candidate: Model, *, inputs: Mapping[str, str]
) -> tuple[list[FeedCase], list[Refusal]]:
    """The cases that both models accept; and of the others, which model refused them (`reference` or `candidate`).

    Where a made-up size is one at which the reference answers by its runtime's leave alone, that counts as refused.
    """
    accepted: list[FeedCase] = []
    refused: list[Refusal] = []
    for case in cases:
        try:
            who = "reference"
            _require_fitting(reference, case)
            recalled(reference, case.feeds)
            if candidate is not reference:
                who = "candidate"
                theirs = {inputs[name]: value for name, value in case.feeds.items() if name in inputs}
                recalled(candidate, theirs)
        except (Unsupported, BadFeeds) as error:
            refused.append((case, who, error))
        else:
            accepted.append(case)
    return accepted, refused


def _require_fitting(reference: Model, case: FeedCase) -> None:
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    if case.values == "data" or not isinstance(reference, OnnxRuntimeModel):
        return
    if unfit := reference.unfit_window(case.feeds):
        raise Unsupported(f"{unfit}, where the standard has no result; larger sizes are tried", where=reference.where)


def _recorded(reference: Model, candidate: Model, inputs: Mapping[str, str]) -> list[FeedCase] | None:
    """What a trace was recorded with, by the reference's names; empty when it kept digests alone, None for no trace."""
    from regraft.runtime.trace_model import TraceModel

    traces = [model for model in (reference, candidate) if isinstance(model, TraceModel)]
    kept = next((model for model in traces if model.has_inputs), None)
    if kept is None:
        return [] if traces else None
    if kept is reference:
        return kept.recorded_feeds()
    ours = {theirs: name for name, theirs in inputs.items()}
    return [
        FeedCase(case.name, {ours.get(name, name): value for name, value in case.feeds.items()}, case.values)
        for case in kept.recorded_feeds()
    ]


def _given(reference: Opened, given: Feeds | Sequence[Feeds] | Sequence[str] | Path | None) -> list[FeedCase]:
    assert reference.model is not None
    if given is None:
        return []
    if isinstance(given, Path):
        return [feeds_from_file(given, reference.model.signature)]
    if isinstance(given, Mapping):
        return [FeedCase("data", _arrays(given), "data")]
    if given and not isinstance(given, str) and all(isinstance(one, str) for one in given):
        if takes_texts(reference.model):
            return list(string_cases(reference.model.signature.inputs[0].name, [str(one) for one in given]))
        return list(text_feeds(text_encoder(reference), [one for one in given if isinstance(one, str)]))
    if isinstance(given, str) or not given:
        raise UsageError(_FEEDS)
    return [FeedCase(f"data {i}", _arrays(one), "data") for i, one in enumerate(given)]


def _arrays(given: object) -> dict[str, Array]:
    if not isinstance(given, Mapping) or not given or any(not hasattr(value, "dtype") for value in given.values()):
        raise UsageError(_FEEDS)
    return dict(given)


def text_encoder(reference: Opened) -> TextEncoder:
    """Tokenizer and length limit of the reference's package, around its model."""
    from regraft.runtime.text import TextEncoder
    from regraft.runtime.tokenizing import load_tokenizer
    from regraft.runtime.verified import VerifiedFiles

    if reference.package is None or reference.model is None:
        raise UsageError("texts need a package with a tokenizer", hint="give arrays in place of texts")
    tokenizer = load_tokenizer(VerifiedFiles(reference.package, reference.permit), reference.path)
    return TextEncoder(reference.model, tokenizer, max_tokens=_tokens_that_fit(reference.model))


def _tokens_that_fit(model: Model) -> int:
    config = getattr(getattr(model, "module", None), "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    return min(positions, 128) if isinstance(positions, int) else 128


def _other_values(own: FeedCase, seed: int, precision: str) -> list[FeedCase]:
    """The user's inputs with other numbers, for a model that does not say its shapes; whole numbers are settings."""
    ports = tuple(
        Port(name, str(value.dtype), value.shape) for name, value in own.feeds.items() if value.dtype.kind == "f"
    )
    made = generated_feeds(Signature(ports, ()), seed=seed, values=values_for(precision, FLOAT_VALUES)) if ports else ()
    return [
        FeedCase(f"{case.name}, as {own.name}", own.feeds | case.feeds, case.values, seed=case.seed) for case in made
    ]


def _fixed_sizes(ours: Signature, theirs: Signature, inputs: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Symbolic dimension of the reference → the one size that the candidate has it at."""
    shapes = {port.name: port.shape for port in theirs.inputs}
    fixed: dict[str, tuple[int, ...]] = {}
    for port in ours.inputs:
        pairs = zip(port.shape or (), shapes.get(inputs.get(port.name, "")) or (), strict=False)
        for axis, (extent, other) in enumerate(pairs):
            if not isinstance(extent, int) and isinstance(other, int):
                fixed[extent if extent is not None else f"{port.name}.{axis}"] = (other,)
    return fixed


def _symbols(signature: Signature) -> dict[str, bool]:
    """Dimensions without a fixed size → whether they are the first of some input: rows, usually."""
    found: dict[str, bool] = {}
    for port in signature.inputs:
        for axis, extent in enumerate(port.shape or ()):
            if not isinstance(extent, int):
                symbol = extent if extent is not None else f"{port.name}.{axis}"
                found[symbol] = found.get(symbol, False) or axis == 0
    return found


def _grows(signature: Signature, fixed: Mapping[str, tuple[int, ...]]) -> bool:
    return any(not is_first and symbol not in fixed for symbol, is_first in _symbols(signature).items())


def _generated(
    signature: Signature, fixed: Mapping[str, tuple[int, ...]], seed: int, precision: str, larger: Sequence[int]
) -> list[FeedCase]:
    elements = max(
        (math.prod(extent for extent in port.shape or () if isinstance(extent, int)) for port in signature.inputs),
        default=0,
    )
    is_heavy = elements > _HEAVY_ELEMENTS or bool(larger)
    usual = _HEAVY_SIZES if is_heavy else SIZES
    symbols = _symbols(signature)
    sizes = {
        symbol: fixed.get(symbol, usual if is_first or not larger else larger) for symbol, is_first in symbols.items()
    }
    has_pictures_alone = is_heavy and all("float" in port.dtype for port in signature.inputs)
    single = {symbol: sizes[symbol][0] for symbol, is_first in symbols.items() if is_first and has_pictures_alone}
    values = values_for(precision, _HEAVY_VALUES if is_heavy else (*FLOAT_VALUES, *INTEGER_VALUES))
    return list(generated_feeds(signature, seed=seed, sizes=sizes, values=values, kinds_at=single))


def values_for(precision: str, values: Sequence[str]) -> list[str]:
    """The kinds of values on which a precision can be judged."""
    is_coarse = UNIT_ROUNDOFF.get(precision, 0.0) > _COARSE
    return [kind for kind in values if not (is_coarse and kind == _BEYOND_COARSE)]
