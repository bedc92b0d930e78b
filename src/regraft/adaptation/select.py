"""select: which of these candidates serves my data, and is reuse worth it at all?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.adaptation.constraints import DeviceLimits, Judged, judge
from regraft.adaptation.data import DataSpec, LabelledData, load_data
from regraft.adaptation.features import (
    TIME_LIMIT_S,
    Candidate,
    Examined,
    Features,
    Setting,
    examine,
    extract,
)
from regraft.adaptation.learning_curve import SIZES, CatchUp, Curve, catch_up, learning_curve, usable_sizes
from regraft.adaptation.probe import logistic_probe, raw_baseline, raw_inputs
from regraft.adaptation.ranking import Competitor, Ranking, baselines, competitor, rank
from regraft.adaptation.selection_evidence import record_selection
from regraft.adaptation.splits import Split, split
from regraft.errors import RegraftError, UsageError
from regraft.record.evidence import Draft, Evidence, Verdict
from regraft.record.policy import Policy
from regraft.record.policy_file import read_policy
from regraft.record.store import Store, open_store
from regraft.runtime.permission import PermitSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Rejected(msgspec.Struct, frozen=True):
    """A candidate that was not compared.

    Attributes:
        is_determined: it breaks a constraint; else it failed, and nothing is known about how good it is.
        examined: None where it could not even be opened.
        excess: share by which it is beyond the bound that it breaks most.
    """

    candidate: Candidate
    reason: str
    is_determined: bool
    hint: str = ""
    code: str = ""
    examined: Examined | None = None
    excess: float | None = None


class Selection(msgspec.Struct, frozen=True):
    """What `select` found out.

    Attributes:
        chosen: the candidate to reuse; None where none may be, or a baseline is ahead.
        ranking: None where nothing could be compared.
        unknown: candidate → constraints of which nothing is known.
        curves: accuracy over labels of the baseline and of the chosen one; empty when not asked for.
    """

    evidence: Evidence
    chosen: Candidate | None
    ranking: Ranking | None
    rejected: tuple[Rejected, ...]
    unknown: dict[str, tuple[Judged, ...]]
    curves: tuple[Curve, ...] = ()
    catch_up: CatchUp | None = None


class Comparison(msgspec.Struct):
    """Everything that a selection gathers on its way to evidence."""

    data: LabelledData
    split: Split
    seed: int
    candidates: tuple[Candidate, ...]
    budget: DeviceLimits | None
    policy: Policy | None
    examined: dict[str, Examined] = {}
    features: dict[str, Features] = {}
    rejected: list[Rejected] = []
    unknown: dict[str, tuple[Judged, ...]] = {}
    ranking: Ranking | None = None
    curves: tuple[Curve, ...] = ()
    catch_up: CatchUp | None = None

    @property
    def chosen(self) -> str | None:
        """The candidate of the highest mean accuracy, unless a baseline has a higher one."""
        if self.ranking is None or self.ranking.competitors[0].is_baseline:
            return None
        return self.ranking.competitors[0].name


def select(
    candidates: Sequence[Candidate | str | os.PathLike[str] | Mapping[str, str | None]],
    data: DataSpec | LabelledData | str | os.PathLike[str],
    *,
    budget: DeviceLimits | None = None,
    policy: Policy | str | os.PathLike[str] | None = None,
    store: Store | None = None,
    seed: int = 0,
    curve_sizes: Sequence[int] = SIZES,
    threads: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    permit: PermitSource | None = None,
    search_path: Sequence[str] = (),
    offline: bool = False,
) -> Selection:
    """Compare candidates on labelled data: a probe on the features of each, beside trivial baselines.

    Constraints come first and cost nothing. Then each candidate computes features once, in a process of its own;
    one that crashes, hangs or wants to run its own code is recorded, and the others go on. The order is that of
    repeated stratified cross-validation on the learning rows; the held-out rows judge, they never choose.

    Args:
        candidates: packages; text or image encoders.
        data: where labelled rows are, or the rows.
        budget: of the device; what the store does not know about a candidate is unknown, not met.
        policy: its demands on scan, inspection and licence.
        store: of evidence and features; default: the user's.
        seed: of the split, the folds and the draws.
        curve_sizes: labels at which the learning curve is measured; empty for none.
        threads: for the candidates; None for their runtime's default.
        time_limit_s: wall time after which one candidate counts as hanging.
        permit: leave to load; None takes it from the newest scan of the same bytes in the store.
        search_path: folders in which the user's own code (`py:`, `factory`) is looked up.
    Returns:
        evidence of kind `select`. Outcome `chosen`, `tied` (the first is not shown to be better than others),
        `baseline` (a trivial baseline is ahead or not beaten), `none_fits` (fail) or `undecided`.
    Raises:
        UsageError: no candidates, two of one name, or a column that is not there.
        RegraftError: the data as a whole cannot be read.
    Source: probes: Alain and Bengio (2016), Understanding intermediate layers using linear classifier probes.
    """
    draft = Draft("select")
    chosen_from = _candidates(candidates)
    store = store or open_store()
    labelled = data if isinstance(data, LabelledData) else load_data(data, store=store, offline=offline)
    rules = policy if isinstance(policy, Policy) or policy is None else read_policy(Path(policy))
    rows = split(labelled, seed=seed)
    gathered = Comparison(labelled, rows, seed, chosen_from, budget, rules)
    setting = Setting(
        store=store,
        offline=offline,
        threads=threads,
        time_limit_s=time_limit_s,
        permit=permit,
        search_path=tuple(search_path),
    )
    if labelled.is_enough:
        _constrain(gathered, setting)
        _compare(gathered, setting)
        if curve_sizes and gathered.chosen is not None:
            _draw_curves(gathered, setting, curve_sizes)
    evidence = record_selection(draft, gathered)
    chosen = next((one for one in chosen_from if one.title == gathered.chosen), None)
    return Selection(
        evidence,
        chosen if evidence.verdict is not Verdict.FAIL else None,
        gathered.ranking,
        tuple(gathered.rejected),
        gathered.unknown,
        gathered.curves,
        gathered.catch_up,
    )


def _candidates(
    given: Sequence[Candidate | str | os.PathLike[str] | Mapping[str, str | None]],
) -> tuple[Candidate, ...]:
    found = tuple(
        one
        if isinstance(one, Candidate)
        else msgspec.convert(dict(one), Candidate)
        if isinstance(one, Mapping)
        else Candidate(ref=os.fspath(one))
        for one in given
    )
    titles = [one.title for one in found]
    if not found:
        raise UsageError("there are no candidates", hint="name at least one package")
    if doubled := next((title for title in titles if titles.count(title) > 1), None):
        raise UsageError(f"two candidates are called {doubled!r}", hint="give them names of their own: name=REF")
    return found


def _constrain(gathered: Comparison, setting: Setting) -> None:
    """Examine every candidate from outside; keep those that break no constraint."""
    for candidate in gathered.candidates:
        try:
            examined = examine(candidate, setting)
        except RegraftError as error:
            gathered.rejected.append(_failed(candidate, error))
            continue
        judged = judge(examined, gathered.budget, gathered.policy)
        broken = [one for one in judged if one.verdict is Verdict.FAIL]
        if broken:
            excess = max((one.excess for one in broken if one.excess is not None), default=None)
            reason = "; ".join(one.message for one in broken)
            gathered.rejected.append(Rejected(candidate, reason, True, examined=examined, excess=excess))
            continue
        gathered.unknown[candidate.title] = tuple(one for one in judged if one.verdict is Verdict.INCONCLUSIVE)
        gathered.examined[candidate.title] = examined


def _compare(gathered: Comparison, setting: Setting) -> None:
    import numpy as np

    rows = np.concatenate([gathered.split.learn, gathered.split.held_out])
    found: list[Competitor] = []
    for name, examined in gathered.examined.items():
        try:
            features = extract(examined, gathered.data, rows, setting)
        except RegraftError as error:
            gathered.rejected.append(_failed(examined.candidate, error, examined))
            continue
        gathered.features[name] = features
        found.append(competitor(name, features, gathered.data, gathered.split, seed=gathered.seed))
    if found:
        found += baselines(gathered.data, gathered.split, seed=gathered.seed)
        gathered.ranking = rank(found)


def _failed(candidate: Candidate, error: RegraftError, examined: Examined | None = None) -> Rejected:
    return Rejected(candidate, error.what, False, error.hint, error.code, examined)


def _draw_curves(gathered: Comparison, setting: Setting, sizes: Sequence[int]) -> None:
    """Accuracy over labels of the baseline and of the chosen candidate, whose features of all rows are needed."""
    data, rows = gathered.data, gathered.split
    usable = usable_sizes(sizes, data.labels[rows.pool], learn=len(rows.learn))
    if not usable or gathered.chosen is None:
        return
    name = gathered.chosen
    try:
        vectors = _all_features(gathered, name, setting)
    except RegraftError as error:
        gathered.rejected.append(_failed(gathered.examined[name].candidate, error, gathered.examined[name]))
        return
    where = {"pool": rows.pool, "held_out": rows.held_out}
    baseline = raw_baseline(data)
    probe = msgspec.structs.replace(logistic_probe(), name=name)
    curves = [
        learning_curve(method, inputs, data.labels, **where, sizes=usable, seed=gathered.seed)
        for method, inputs in ((baseline, raw_inputs(data)), (probe, vectors))
    ]
    gathered.curves = tuple(curves)
    gathered.catch_up = catch_up(*curves, labels=len(rows.learn), seed=gathered.seed)


def _all_features(gathered: Comparison, name: str, setting: Setting) -> NDArray[np.float32]:
    """(N, D) features of every row; those that the comparison computed are not computed again."""
    import numpy as np

    rows, known = gathered.split, gathered.features[name].vectors
    seen = np.concatenate([rows.learn, rows.held_out])
    rest = np.setdiff1d(rows.pool, rows.learn)
    vectors = np.empty((len(gathered.data), known.shape[1]), dtype=np.float32)
    vectors[seen] = known
    if len(rest):
        vectors[rest] = extract(gathered.examined[name], gathered.data, rest, setting).vectors
    return vectors
