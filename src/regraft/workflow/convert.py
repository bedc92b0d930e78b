"""convert with the scan before it, and in a process of its own: what dies there is a way that failed, and no end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.compare.int8 import MARGIN
from regraft.deployment.convert import Conversion, require_target
from regraft.deployment.convert import convert as make
from regraft.deployment.convert.chain import ARROW
from regraft.errors import UsageError, error_of
from regraft.package.product import move_package
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Verdict, evidence_from_json
from regraft.workflow.apart import last_words, plain, run_apart, sent, subjects_of, told_death, written
from regraft.workflow.bench import permit_by_scan
from regraft.workflow.engine.interface import Ended, Ending, Plain, Resources, TheStore, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regraft.deployment.loading import AnyModel
    from regraft.record.store import Store

_WATCHED = "regraft.workflow.convert:convert_watched"
_DEATHS = 8
"""Ways that may die before the search is given up."""


def convert(
    ref: AnyModel,
    *,
    to: str,
    out: Path,
    store: Store | None = None,
    offline: bool = False,
    trust_code: bool = False,
    isolate: bool = False,
    time_limit_s: float | None = None,
    memory_mb: int | None = None,
    data: str | None = None,
    columns: dict[str, Any] | None = None,
    margin: float = MARGIN,
    seed: int = 0,
    **options: Any,
) -> Conversion:
    """Convert a package to another form, and verify the result of every hop against the source.

    Args:
        ref, to, out, store, offline, options: as `regraft.deployment.convert.convert`, which says what they mean.
        trust_code: the user vouches for code that the package brings; its network lives in the sandbox, and so does the
            converter that reads it.
        isolate: in a process of its own: a converter that crashes, hangs or eats memory is a way that failed, and the
            next is tried. `ref` is a reference then.
        time_limit_s: with `isolate`, wall time of one attempt.
        memory_mb: with `isolate`, MiB that it may hold with all its children.
        data: labelled rows of the task, by which a form of lower precision is judged. See `task_data`.
        columns: fields of `DataSpec` beside its reference: `text`, `label`, `where`, `labels`, `held_out`.
        margin: accuracy that the product may lose there, as a share, from 0 to below 1.
        seed: of made-up feeds, and of the split of the data.
    Returns:
        the path of the new package, and its evidence.
    Raises:
        UsageError: limits without `isolate`. And as there.
    """
    if isolate:
        options |= {"data": data, "columns": columns, "margin": margin, "seed": seed, "trust_code": trust_code}
        limits = Resources(0, memory_mb << 20 if memory_mb is not None else None, time_limit_s)
        return _convert_apart(ref, to, Path(out), store, offline=offline, limits=limits, **options)
    if time_limit_s is not None or memory_mb is not None:
        raise UsageError("nothing is limited in this very process", hint="limits want isolate=True")
    if data is not None:
        from regraft.adaptation.data import DataSpec
        from regraft.workflow.task_data import task_data

        spec = DataSpec(ref=data, **(columns or {}))
        options["task"] = task_data(ref, spec, margin=margin, seed=seed, store=store, offline=offline)
    options |= {"store": store, "offline": offline, "permit": permit_by_scan(store), "seed": seed}
    if not trust_code:
        return make(ref, to=to, out=out, **options)
    from regraft.workflow.trusted import opened_with_code

    how = {name: options.get(name) for name in ("runtime", "threads", "factory")}
    with opened_with_code(ref, store=store, offline=offline, **how) as source:
        return make(source, to=to, out=out, **options)


def convert_watched(ref: str, *, out: Path, journal: Path, **options: Any) -> Evidence | list[Evidence]:
    """As `convert`; what is being tried stands in a file, for who watches the process.

    Returns:
        the evidence of the conversion, then that of the verification.
    """

    def note(way: Sequence[str]) -> None:
        journal.write_text(ARROW.join(way), encoding="utf-8")

    made = convert(ref, out=out, on_hop=note, **options)
    return [made.evidence] if made.verification is None else [made.evidence, made.verification]


def _convert_apart(
    ref: AnyModel, to: str, out: Path, store: Store | None, *, offline: bool, limits: Resources, **options: Any
) -> Conversion:
    """Try in a worker; when it dies, try again without the way that it died on."""
    require_target(out, to, options.get("avoid") or ())
    arguments: dict[str, Value] = {name: sent(name, value) for name, value in options.items()}
    arguments |= {"ref": Plain(written(ref)), "to": Plain(to), "offline": Plain(offline)}
    if store is not None:
        arguments["store"] = TheStore()
    dead: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True) as work:
        journal = Path(work) / "journal"
        while True:
            journal.unlink(missing_ok=True)
            attempt = Path(work) / str(len(dead))
            attempt.mkdir()
            arguments |= {
                "dead": sent("dead", dead), "journal": sent("journal", journal), "out": sent("out", attempt / out.name),
            }  # fmt: skip
            ended = run_apart(_WATCHED, arguments, store, limits)
            if ended.evidence:
                return _conversion(ended, attempt / out.name, out)
            if ended.ending is Ending.REFUSED:
                assert ended.problem is not None
                raise error_of(
                    ended.problem.code, ended.problem.what, where=ended.problem.where, hint=ended.problem.hint
                )
            way = journal.read_text(encoding="utf-8") if journal.exists() else ""
            if not way or way in dead or len(dead) == _DEATHS:
                return _gave_up(ended, written(ref), way, dead, offline=offline, store=store, to=to, **options)
            dead[way] = f"the process {told_death(ended)}"


def _conversion(ended: Ended, made: Path, out: Path) -> Conversion:
    """The product comes to its place once its evidence is here: there is never one without the other."""
    evidence, *more = [evidence_from_json(content) for content in ended.evidence]
    if made.exists():
        move_package(made, out)
    return Conversion(evidence, out if out.exists() else None, more[0] if more else None)


def _gave_up(
    ended: Ended, ref: str, way: str, dead: Mapping[str, str], *, offline: bool, store: Store | None, **options: Any
) -> Conversion:
    """The worker died where no other way helps: while the source was loaded, or again and again."""
    draft = Draft("convert", parameters={name: plain(value) for name, value in options.items()})
    subjects = subjects_of(ref, SourceOptions(offline=offline, store=store))
    draft.materials += subjects
    draft.subject += subjects[:1]
    for other, why in dead.items():
        draft.find(Finding("convert.failed", Severity.UNKNOWN, f"{other}: {why}", data={"hop": other}))
    at = way or "loading the source"
    message = f"{at}: the process {told_death(ended)}"
    log = {"ending": ended.ending.value, "log": last_words(ended)}
    draft.find(Finding("convert.failed", Severity.UNKNOWN, message, data={"hop": at, **log}))
    return Conversion(draft.finish(outcome="failed", summary=message, verdict=Verdict.INCONCLUSIVE))
