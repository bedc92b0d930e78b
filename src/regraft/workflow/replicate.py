"""replicate: is a re-implementation, with the reference's weights, the same network; where and why not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.pairing import pair_inputs
from regraft.compare.recall import recalled, recalling
from regraft.compare.weight_map import WeightMap
from regraft.compare.weight_map.document import script_from_map, toml_from_map
from regraft.conceptual.block_tests import emit_tests
from regraft.conceptual.performance_evidence import add_speed_profile
from regraft.conceptual.replicate import concluded
from regraft.conceptual.replication import Mapped, map_onto
from regraft.deployment.loading import AnyModel, LoadRequest, Opened, opened
from regraft.deployment.trial import accepted_feeds
from regraft.deployment.verify import verify
from regraft.deployment.verify_evidence import impossible
from regraft.errors import Damaged, NotFound, RegraftError, Unsupported, UsageError
from regraft.package.product import require_free
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity, Verdict
from regraft.runtime.named_weights import are_weights_read, can_be_filled
from regraft.workflow.bench import permit_by_scan
from regraft.workflow.fuzzing import Fuzzing, fuzzed

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Feeds, Model

_RECORDED = "trace"
_TO_ONNX = ("litert", "tensorflow")
"""Runtimes whose models there is a converter to ONNX for."""
_FILE = "onnxruntime"
"""What a converter made has the reference's weights already: where no map is found, they are compared."""


def replicate(
    reference: AnyModel,
    candidate: AnyModel,
    *,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None = None,
    map_file: Path | None = None,
    map_out: Path | None = None,
    converter_out: Path | None = None,
    tests_out: Path | None = None,
    is_proven: bool = True,
    own_weights: bool = False,
    is_profiled: bool = False,
    fuzz_s: float | None = None,
    replay: Sequence[Path] = (),
    store: Store | None = None,
    seed: int = 0,
    runtime: str | None = None,
    reference_runtime: str | None = None,
    factory: str | None = None,
    candidate_factory: str | None = None,
    threads: int | None = None,
    offline: bool = False,
) -> Evidence:
    """Find out whether a re-implementation is the same network as its reference, once it has the same weights.

    The weights of the reference are mapped to the candidate's, whatever their names and layouts, and put there; then
    both are compared in noise floors, and where they differ the operator and the cause are named.

    Args:
        reference: what counts as right: a reference, an open package, or a loaded model.
        candidate: the re-implementation; likewise. Its own weights do not matter, unless most of them are the
            reference's: then those that are not are findings.
        feeds: the user's own inputs, tried before made-up ones.
        map_file: a weight map (TOML) to use in place of finding one.
        map_out: where to write the map, to be looked at and edited.
        converter_out: where to write a Python script that converts the weights without Regraft.
        tests_out: folder to make, with a regression test for every block of the candidate, where it is replicated, or
            with a test of the counterexample that was found.
        is_proven: prove the map on the reference's values; False leaves what structure says.
        own_weights: compare the candidate with the weights that it has.
        is_profiled: time both, too: as a whole, networks of torch by module, those of ONNX Runtime by scope.
        fuzz_s: seconds to search for inputs, and weights, on which they differ after all, where they seem the same.
        replay: counterexamples of such a search, that are judged again.
        store: where packages and scans are looked up.
        seed: of made-up feeds, and of the search.
        runtime, reference_runtime: that load the candidate, the reference.
        factory, candidate_factory: `module:factory` that builds a network for weights without an architecture.
        threads: intra-op threads of both.
        offline: no network.
    Returns:
        evidence of kind `replicate`: replicated passes, differs fails, undecided is inconclusive.
    Raises:
        UsageError, Damaged: the map, the feeds or a counterexample make no sense, or the folder for tests is taken.
            And what opening a package raises.
    """
    if tests_out is not None:
        require_free(tests_out)
    for path in (map_out, converter_out):
        if path is not None and not path.parent.is_dir():
            raise UsageError(
                "there is no such folder to write to", where=str(path.parent), hint=f"mkdir -p {path.parent}"
            )
    if fuzz_s is not None and not 0 < fuzz_s < math.inf:
        raise UsageError("a search takes a number of seconds above 0", where=f"{fuzz_s}", hint="--fuzz 60")
    common = LoadRequest(threads=threads, store=store, offline=offline, permit=permit_by_scan(store))
    first = msgspec.structs.replace(common, runtime=reference_runtime, factory=factory)
    second = msgspec.structs.replace(common, runtime=runtime, factory=candidate_factory)
    draft = Draft("replicate", parameters={"seed": seed, "is_proven": is_proven, "own_weights": own_weights,
                                           "map": str(map_file) if map_file else None, "fuzz_s": fuzz_s})  # fmt: skip
    with recalling(), opened(reference, first) as ours, opened(candidate, second) as theirs:
        draft.subject += theirs.subjects
        draft.materials += ours.subjects
        if is_profiled:
            _profile(draft, ours, theirs, feeds, seed=seed)
        filled = theirs
        outcome: Mapped | None = None
        if ours.model is not None and theirs.model is not None and not own_weights:
            outcome = _filled(draft, ours, theirs, feeds, seed=seed, map_file=map_file, is_proven=is_proven)
            _write(draft, outcome, map_out, converter_out)
            if outcome is None or outcome.model is None:
                return concluded(draft, None)
            filled = msgspec.structs.replace(theirs, model=outcome.model)
        forward = verify(ours, filled, feeds=feeds, store=store, seed=seed, threads=threads, offline=offline)
        if fuzz_s is not None or replay:
            named = (str(reference), str(candidate)) if isinstance(candidate, str) else None
            options = {
                "own_weights": own_weights, "is_proven": is_proven, "seed": seed, "map_file": map_file,
                "feeds": feeds if isinstance(feeds, Path) else None, "runtime": runtime, "factory": factory,
                "reference_runtime": reference_runtime, "candidate_factory": candidate_factory,
            }  # fmt: skip
            wanted = Fuzzing(
                seconds=fuzz_s, replay=replay, tests_out=tests_out, named=named, store=store, seed=seed,
                options={name: value for name, value in options.items() if value is not None},
            )  # fmt: skip
            _fuzz(draft, forward, ours, filled, outcome, feeds, wanted)
        if tests_out is not None and all(one.rule != "replicate.counterexample" for one in draft.findings):
            _emit_tests(draft, forward, theirs, str(candidate), tests_out, seed=seed)
        return concluded(draft, forward)


def _fuzz(
    draft: Draft,
    forward: Evidence,
    ours: Opened,
    filled: Opened,
    outcome: Mapped | None,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    wanted: Fuzzing,
) -> None:
    """A search is worth its time only where nothing differs yet, and both answer the same each time."""
    is_random = any(one.rule == "verify.not_deterministic" for one in forward.findings)
    if forward.verdict is Verdict.FAIL or is_random or ours.model is None or filled.model is None:
        message = "it was not fuzzed: the two differ already, or one of them does not run, or by chance"
        draft.find(Finding("replicate.no_fuzz", Severity.INFO, message))
        return
    reference, candidate = ours.model, filled.model
    try:
        inputs = pair_inputs(reference.signature.inputs, candidate.signature.inputs, candidate.where).names
        cases, _ = accepted_feeds(ours, candidate, feeds, inputs=inputs, seed=wanted.seed)
    except Unsupported as error:
        message = f"it was not fuzzed: {error.what}"
        draft.find(Finding("replicate.no_fuzz", Severity.UNKNOWN, message, fix=error.hint or None))
        return
    if not cases:
        return  # which is a finding of the comparison
    mapped = outcome or Mapped(WeightMap((), {}, {}), candidate)
    fuzzed(draft, ours, filled, mapped, cases, _telling(cases), inputs=inputs, wanted=wanted)


def _emit_tests(draft: Draft, forward: Evidence, theirs: Opened, named: str, folder: Path, *, seed: int) -> None:
    """Tests of the candidate as it is now, which are worth keeping only when that is right."""
    if forward.verdict is not Verdict.PASS:
        draft.find(Finding("replicate.no_tests", Severity.INFO, "no tests are written: it is not the same network"))
        return
    assert theirs.model is not None
    try:
        same = {port.name: port.name for port in theirs.model.signature.inputs}
        cases, _ = accepted_feeds(theirs, theirs.model, None, inputs=same, seed=seed)
        factory = named.removeprefix("py:")
        emitted = emit_tests(theirs.model, _telling(cases).feeds, factory=factory, folder=folder)
    except Unsupported as error:
        message = f"no tests could be written: {error.what}"
        draft.find(Finding("replicate.no_tests", Severity.UNKNOWN, message, fix=error.hint or None))
        return
    left_out: dict[str, JSON] = {**emitted.left_out}
    message = f"{len(emitted.blocks)} blocks have a test in {folder}: pytest {folder}"
    draft.find(Finding("replicate.tests", Severity.INFO, message, data={"left_out": left_out}))


def _profile(
    draft: Draft,
    ours: Opened,
    theirs: Opened,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    *,
    seed: int,
) -> None:
    """How fast both are: with the weights that they have, which makes no difference to that."""
    try:
        if ours.model is None or theirs.model is None:
            raise Unsupported("a bare file of weights takes no time: there is no network")
        reference, candidate = ours.model, theirs.model
        inputs = pair_inputs(reference.signature.inputs, candidate.signature.inputs, candidate.where).names
        cases, _ = accepted_feeds(ours, candidate, feeds, inputs=inputs, seed=seed)
        add_speed_profile(draft, reference, candidate, cases, inputs=inputs)
    except Unsupported as error:
        message = f"the speed was not compared: {error.what}"
        draft.find(Finding("replicate.no_profile", Severity.UNKNOWN, message, fix=error.hint or None))


def _filled(
    draft: Draft,
    ours: Opened,
    theirs: Opened,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    *,
    seed: int,
    map_file: Path | None,
    is_proven: bool,
) -> Mapped | None:
    """The candidate with the reference's weights; None, and a finding, where that is not possible."""
    reference, candidate = ours.model, theirs.model
    assert reference is not None
    assert candidate is not None
    for role, model, is_mapped in (
        ("reference", reference, reference.runtime != _RECORDED),
        ("candidate", candidate, can_be_filled(candidate)),
    ):
        if not is_mapped:
            message = f"the weights of the {role} ({model.runtime}) cannot be seen or replaced: compared as they are"
            draft.find(Finding("replicate.own_weights_only", Severity.INFO, message, fix=_mappable(model)))
            return Mapped(WeightMap((), {}, {}), candidate)
    if not are_weights_read(reference):
        message = f"how the reference ({reference.runtime}) uses its weights is not known, so that they are not mapped"
        fix = f"{_mappable(reference)}; or compare the candidate with the weights that it has: --own-weights"
        draft.find(Finding("replicate.cannot_map", Severity.UNKNOWN, message, fix=fix))
        return None
    if candidate.runtime != _FILE or map_file is not None:
        return _mapped(draft, ours, theirs, feeds, seed=seed, map_file=map_file, is_proven=is_proven)
    tried = Draft("replicate")
    outcome = _mapped(tried, ours, theirs, feeds, seed=seed, map_file=None, is_proven=is_proven)
    if outcome is not None and outcome.model is not None:
        draft.findings += tried.findings
        draft.measurements += tried.measurements
        return outcome
    blocking = [one.message for one in tried.findings if one.severity is not Severity.INFO]
    message = f"its initialisers are compared as they are, no map fills all of them: {'; '.join(blocking[:2])}"
    draft.find(Finding("replicate.own_weights_only", Severity.INFO, message))
    return Mapped(outcome.weight_map if outcome is not None else WeightMap((), {}, {}), candidate)


def _mappable(model: Model) -> str | None:
    """What to do to have the weights of a model mapped; None for a recording."""
    if model.runtime == _RECORDED:
        return None
    if model.runtime in _TO_ONNX:
        return "weights of ONNX are mapped: convert it first, regraft convert MODEL --to onnx -o FOLDER"
    return "weights of torch, JAX, Keras and ONNX are mapped: name the network, or the ONNX file, that it was made of"


def _mapped(
    draft: Draft,
    ours: Opened,
    theirs: Opened,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    *,
    seed: int,
    map_file: Path | None,
    is_proven: bool,
) -> Mapped | None:
    """The map, and the candidate filled by it; None, and a finding, where it cannot be looked for."""
    reference, candidate = ours.model, theirs.model
    assert reference is not None
    assert candidate is not None
    try:
        inputs = pair_inputs(reference.signature.inputs, candidate.signature.inputs, candidate.where).names
        cases, refused = accepted_feeds(ours, candidate, feeds, inputs=inputs, seed=seed)
        if not cases:
            why = "".join(f": the {who} says: {error.what}" for _, who, error in refused[:1])
            raise Unsupported(
                f"there are no feeds on which both models run{why}", hint="give inputs that both take: --feeds"
            )
        case = _telling(cases)
        _require_answers(ours, candidate, case, inputs)
        return map_onto(draft, reference, candidate, case.feeds, inputs=inputs, given=map_file, is_proven=is_proven)
    except (UsageError, NotFound, Damaged):
        raise
    except (RegraftError, MemoryError) as error:
        draft.find(impossible(error, "", rule="replicate.cannot_map"))
        return None


def _require_answers(ours: Opened, candidate: Model, case: FeedCase, inputs: Mapping[str, str]) -> None:
    """Both have to return something."""
    assert ours.model is not None
    theirs = {inputs[name]: value for name, value in case.feeds.items() if name in inputs}
    for role, model, given in (("reference", ours.model, case.feeds), ("candidate", candidate, theirs)):
        if not recalled(model, given):
            hint = "return a tensor, or a dictionary of tensors"
            raise Unsupported(f"the {role} returns no tensor", where=model.where, hint=hint)


def _telling(cases: Sequence[FeedCase]) -> FeedCase:
    """Ordinary values in several rows; the lightest of these."""

    def weight(case: FeedCase) -> tuple[bool, bool, int]:
        arrays = list(case.feeds.values())
        is_single = any(extent == 1 for value in arrays for extent in value.shape[:2])
        return (case.values not in ("data", "normal", "uniform"), is_single, sum(value.size for value in arrays))

    return min(cases, key=weight)


def _write(draft: Draft, outcome: Mapped | None, map_out: Path | None, converter_out: Path | None) -> None:
    wanted = [(path, make) for path, make in ((map_out, toml_from_map), (converter_out, script_from_map)) if path]
    if outcome is None or not outcome.weight_map.pairs:
        for path, _ in wanted:
            message = f"{path} was not written: no weight of one is a weight of the other"
            draft.find(Finding("replicate.no_map", Severity.LOW, message))
        return
    for path, make in wanted:
        path.write_text(make(outcome.weight_map), "utf-8")
