"""replicate --fuzz and --replay: the search for a disagreement, what is kept of it, and where it arises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.precision import recognised_precision
from regraft.conceptual.fuzzing import Counterexample, Pair, fuzz
from regraft.conceptual.fuzzing.counterexample_file import (
    check_names,
    counterexample_bytes,
    counterexample_from_file,
    write_counterexample_tests,
)
from regraft.conceptual.fuzzing.domain import relaxed
from regraft.conceptual.fuzzing.findings import counterexample_finding, report_coverage, report_fuzzed
from regraft.conceptual.fuzzing.oracle import COUNTS, PRECISION, Answer
from regraft.conceptual.replication import Mapped
from regraft.deployment.loading import Opened
from regraft.deployment.verify import verify
from regraft.errors import BadFeeds, MissingExtra, Unsupported, UsageError
from regraft.record.evidence import Artifact, Draft, Finding, Severity

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Model

_RECORDED = ("trace",)
"""Runtimes whose models answer to what they were recorded with, and to nothing else."""
_COVERAGE_SHARE, _MOST_COVERAGE_S = 0.25, 20.0
_MEDIA_TYPE = "application/vnd.safetensors"


class Fuzzing(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted.

    Attributes:
        seconds: to search; None for no search.
        replay: files of counterexamples that are judged again.
        tests_out: folder to write counterexamples to, with a test of them.
        named: reference and candidate, as tests name them; None where they have no names.
        options: of `replicate`, that a test has to repeat.
        store: where a counterexample is kept.
        seed: of everything that is drawn.
    """

    seconds: float | None = None
    replay: Sequence[Path] = ()
    tests_out: Path | None = None
    named: tuple[str, str] | None = None
    options: Mapping[str, object] = {}
    store: Store | None = None
    seed: int = 0


def fuzzed(
    draft: Draft,
    ours: Opened,
    theirs: Opened,
    mapped: Mapped,
    cases: Sequence[FeedCase],
    case: FeedCase,
    *,
    inputs: Mapping[str, str],
    wanted: Fuzzing,
) -> None:
    """Judge old counterexamples again, and search for one; what is found are findings.

    Args:
        draft: of the verb.
        ours, theirs: both, the candidate with the reference's weights.
        mapped: how these were mapped.
        cases: inputs that both take; those of the user's own are tried first.
        case: one of them, whose sizes are the usual ones.
        inputs: reference's input → candidate's.
        wanted: by the user.
    Raises:
        UsageError, Damaged, NotFound: a file is no counterexample of this reference.
    """
    reference, candidate = ours.model, theirs.model
    assert reference is not None
    assert candidate is not None
    try:
        _check(reference, candidate)
        pair = _pair(reference, candidate, mapped, case, inputs, wanted.seed)
        try:
            for path in wanted.replay:
                _replay(draft, pair, path, lambda seed: _pair(reference, candidate, mapped, case, inputs, seed))
            if wanted.seconds is not None:
                _search(draft, pair, cases, wanted)
        finally:
            pair.restore()
    except (Unsupported, BadFeeds) as error:
        message = f"it was not fuzzed: {error.what}"
        draft.find(Finding("replicate.no_fuzz", Severity.UNKNOWN, message, fix=error.hint or None))


def _check(reference: Model, candidate: Model) -> None:
    for model in (reference, candidate):
        if model.runtime in _RECORDED:
            raise Unsupported(f"a model of {model.runtime} answers to what it was recorded with", where=model.where)
        if recognised_precision(model) not in (PRECISION, "float64"):
            raise Unsupported(
                f"it works in {recognised_precision(model)}, and floors are of {PRECISION}", where=model.where
            )


def _pair(
    reference: Model, candidate: Model, mapped: Mapped, case: FeedCase, inputs: Mapping[str, str], seed: int
) -> Pair:
    return Pair(
        reference, candidate, case.feeds, inputs=inputs, weight_map=mapped.weight_map, values=mapped.values, seed=seed
    )


def _replay(draft: Draft, pair: Pair, path: Path, with_seed: Callable[[int], Pair]) -> None:
    recipe, arrays = counterexample_from_file(path)
    check_names(arrays, [port.name for port in pair.domain.ports], path)
    of_file = with_seed(recipe.seed)
    checkpoint = next((one for one in of_file.checkpoints() if one.name == recipe.checkpoint), None)
    if checkpoint is None:
        raise UsageError(f"these networks cannot be given the weights {recipe.checkpoint!r}", where=str(path))
    outcome = of_file.oracle(checkpoint).judged(arrays)
    if outcome.answer in COUNTS:
        found = Counterexample(checkpoint, arrays, arrays, outcome, 0)
        draft.find(counterexample_finding(found, kept=str(path)))
        _locate(draft, of_file, found)
        return
    is_skipped = outcome.answer is Answer.SKIPPED
    message = f"{path}: {'the reference does not answer' if is_skipped else 'both agree on it'}"
    draft.find(Finding("replicate.replayed", Severity.UNKNOWN if is_skipped else Severity.INFO, message))


def _search(draft: Draft, pair: Pair, cases: Sequence[FeedCase], wanted: Fuzzing) -> None:
    assert wanted.seconds is not None
    given = [case.feeds for case in cases if case.values == "data"]
    found = fuzz(pair, seconds=wanted.seconds, given=given, seed=wanted.seed)
    kept = ""
    if found.counterexample is not None:
        try:
            kept = _keep(draft, found.counterexample, wanted)
        except MissingExtra as error:
            message = f"the counterexample is not kept: {error.what}"
            draft.find(Finding("replicate.not_kept", Severity.INFO, message, fix=error.hint or None))
    report_fuzzed(draft, found, seed=wanted.seed, kept=kept)
    if found.counterexample is not None:
        _locate(draft, pair, found.counterexample)
        return
    try:
        seconds = min(_MOST_COVERAGE_S, _COVERAGE_SHARE * wanted.seconds)
        report_coverage(draft, pair.coverage(found.sample, seconds=seconds))
    except (Unsupported, BadFeeds, ValueError) as error:
        draft.find(Finding("feeds.coverage", Severity.INFO, f"fault coverage is unknown: {error}"))


def _keep(draft: Draft, found: Counterexample, wanted: Fuzzing) -> str:
    """Where the counterexample lies: in the folder of tests, else beside the evidence."""
    content = counterexample_bytes(found, seed=wanted.seed)
    kept = ""
    if wanted.store is not None:
        digest = wanted.store.put_blob([content])
        draft.artifacts.append(Artifact("counterexample", digest, _MEDIA_TYPE))
        kept = str(wanted.store.blob_path(digest) or "")
    if wanted.tests_out is not None and wanted.named is not None:
        reference, candidate = wanted.named
        write_counterexample_tests(
            wanted.tests_out,
            {"counterexample": content},
            reference=reference,
            candidate=candidate,
            options=wanted.options,
        )
        message = f"the counterexample has a test in {wanted.tests_out}: pytest {wanted.tests_out}"
        draft.find(Finding("replicate.tests", Severity.INFO, message))
        kept = str(wanted.tests_out / "counterexample.safetensors")
    return kept


def _locate(draft: Draft, pair: Pair, found: Counterexample) -> None:
    """Name the operator, and the cause, that these inputs and weights show."""
    shapes = {name: value.shape for name, value in found.found.items()}
    models = pair.filled(found.checkpoint)
    reference = relaxed(models[0], shapes)
    candidate = relaxed(models[1], {pair.inputs[name]: shape for name, shape in shapes.items() if name in pair.inputs})
    try:
        evidence = verify(reference, candidate, feeds=found.found, seed=0)
    except (Unsupported, BadFeeds, UsageError):
        return
    for finding in evidence.findings:
        if finding.rule == "divergence.origin":
            draft.find(finding)
