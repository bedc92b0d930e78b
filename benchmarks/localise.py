"""The mutation benchmark: is the fault found, at the right node, with the right cause; are benign pairs left alone.

usage: localise.py [--references NAME…] [--kinds NAME…] [--variants NAME…] [--every N] [--no-benign]
                   [--polygraphy N] [--processes N] [--out FILE]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import onnx

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.mutations.architectures import reference
from benchmarks.mutations.architectures.exported import CACHE
from benchmarks.mutations.baselines import first_beyond, polygraphy, polygraphy_reduce
from benchmarks.mutations.benign import benign_names, pair
from benchmarks.mutations.corpus import Entry, entries, mutant
from benchmarks.mutations.effects import FAINT, difference
from benchmarks.mutations.interface import Fault, Feeds, Reference
from benchmarks.mutations.running import Stopped, run
from benchmarks.mutations.scoring import Score, original_names, score, upper_bound
from benchmarks.mutations.variants import VARIANTS

TOLERANCES = (1e-5, 1e-4)
COUNTED = ("visible", "faint")
COLUMNS = ("variant", "n", "detected", "exact", "≤ 3 nodes", "contained", "cause", "extra", "failed", "median s",
           "first > 1e-5 exact", "first > 1e-4 exact", "Polygraphy run exact", "debug reduce exact")  # fmt: skip


class Result(msgspec.Struct, frozen=True):
    """One line of the results: an answer about one candidate.

    Attributes:
        name: of the mutant or of the benign pair.
        variant: of the mutant; `benign` for a pair.
        reference: name of the network.
        label: what the fault does; `benign` for a pair; `healed` where an optimiser removed the fault with what it
            fused.
        kinds: of the faults.
        origins: what was said: reference nodes, candidate nodes, cause.
        seconds: of the localiser alone.
        score: None for a benign pair, and where the localiser failed.
        failed: why the localiser failed; empty otherwise.
        fixed: tolerance → whether the first tensor beyond it is detected, and comes from the right node.
        polygraphy: the same for Polygraphy at 1e-5, and seconds; None where it was not asked.
        reduced: of the part that `polygraphy debug reduce` ends at: how many nodes, whether that is the right one
            alone, and seconds; None where it was not asked.
    """

    name: str
    variant: str
    reference: str
    label: str
    kinds: tuple[str, ...]
    origins: list[tuple[tuple[str, ...], tuple[str, ...], str | None]]
    seconds: float
    score: Score | None = None
    failed: str = ""
    fixed: dict[str, tuple[bool, bool]] = {}
    polygraphy: tuple[bool, bool, float] | None = None
    reduced: tuple[int, bool, float] | None = None


def localised(right: onnx.ModelProto, mine: onnx.ModelProto, feeds: Feeds, *, threads: int = 1) -> Any:
    """Regraft's answer about two ModelProtos; that weights were rounded it has to see by itself."""
    from regraft.compare.localise import localise
    from regraft.runtime.onnx_graph import OnnxGraph

    return localise(OnnxGraph(right, threads=1), OnnxGraph(mine, threads=threads), feeds)


def judge_mutant(entry: Entry, variants: tuple[str, ...], ask_polygraphy: bool) -> list[Result]:
    """All variants of one mutant, on the first feeds that show the fault."""
    planted, of = mutant(entry), reference(entry.reference)
    feeds = of.feeds[telling_feeds(entry)]
    kinds = tuple(fault.kind for fault in planted.faults)
    results = []
    for variant in variants:
        label = entry.effect.label
        common = (entry.name, variant, entry.reference, label, kinds)
        began = time.perf_counter()
        try:
            candidate = VARIANTS[variant](planted.proto)
            if variant == "fused" and label in COUNTED and is_healed(of, candidate):
                common = (*common[:3], "healed", kinds)
            began = time.perf_counter()
            origins = localised(of.proto, candidate, feeds).origins
        except Exception as error:  # noqa: BLE001  whatever it is, it is the localiser's failure, and is counted
            seconds = time.perf_counter() - began
            results.append(Result(*common, [], seconds, failed=f"{type(error).__name__}: {error}"[:300]))
            continue
        seconds = time.perf_counter() - began
        names = original_names(planted.proto, candidate)
        places = {place for fault in planted.faults for place in (*fault.origin, *fault.enclosing[:1])}
        found = {tolerance: first_beyond(of, candidate, feeds, tolerance) for tolerance in TOLERANCES}
        peer = polygraphy(of, candidate, feeds, TOLERANCES[0]) if ask_polygraphy else None
        part = polygraphy_reduce(of, candidate, feeds, TOLERANCES[0]) if ask_polygraphy else None
        results.append(
            Result(
                *common,
                [(one.reference, one.candidate, one.cause) for one in origins],
                seconds,
                score(origins, planted.faults, of, original=names),
                fixed={f"{tolerance:g}": (node is not None, node in places) for tolerance, node in found.items()},
                polygraphy=None if peer is None else (peer[0] is not None, peer[0] in places, peer[1]),
                reduced=None if part is None else (len(part[0]), _is_exact(part[0], planted.faults, names), part[1]),
            )
        )
    return results


def _is_exact(nodes: tuple[str, ...], faults: tuple[Fault, ...], names: dict[str, str] | None) -> bool:
    """Is a part of the candidate one node, that of a fault? Nodes that were fused have no counterpart."""
    right = {place for fault in faults for place in (*fault.origin, *fault.candidate)}
    return len(nodes) == 1 and (names or {}).get(nodes[0], nodes[0]) in right


def telling_feeds(entry: Entry) -> int:
    """The first feeds of a reference on which an output shows every fault of a mutant, each by itself."""
    shown = [set(entry.effect.feeds)]
    if len(entry.steps) > 1:
        alone = {one.steps: set(one.effect.feeds) for one in entries() if len(one.steps) == 1}
        shown += [alone[(step,)] for step in entry.steps if (step,) in alone]
    common = set.intersection(*shown)
    return min(common or shown[0], default=0)


def is_healed(of: Reference, candidate: onnx.ModelProto) -> bool:
    """Does a rewritten mutant answer as the reference does? An optimiser may fuse a faulty pattern as if it were not.

    onnxruntime 1.32 makes a LayerNormalization of a subtraction whose operands are swapped, for instance.
    """
    try:
        for feeds in of.feeds:
            right, mine = run(of.proto, feeds), run(candidate, feeds)
            if any(difference(right[name], mine[name])[0] >= FAINT for name in right):
                return False
    except (Stopped, KeyError):
        return False
    return True


def judge_benign(name: str) -> list[Result]:
    """One benign pair; any origin is a false alarm."""
    one, of = pair(name), reference(name.split("/", maxsplit=1)[0])
    common = (name, "benign", of.name, "benign", (one.rewrite,))
    began = time.perf_counter()
    try:
        origins = localised(of.proto, one.candidate, one.feeds, threads=one.threads).origins
    except Exception as error:  # noqa: BLE001  as above
        return [Result(*common, [], time.perf_counter() - began, failed=f"{type(error).__name__}: {error}"[:300])]
    seconds = time.perf_counter() - began
    said = [(origin.reference, origin.candidate, origin.cause) for origin in origins]
    fixed = {f"{most:g}": (first_beyond(of, one.candidate, one.feeds, most) is not None, False) for most in TOLERANCES}
    return [Result(*common, said, seconds, fixed=fixed)]


def spread(jobs: list[tuple[Callable[..., list[Result]], tuple[Any, ...]]], processes: int) -> Iterator[Result]:
    """Results as they come; when a process dies, what it was at is run again in one of its own."""
    waiting = jobs
    while waiting:
        unfinished = []
        alone = len(waiting) < len(jobs)
        with ProcessPoolExecutor(1 if alone else processes, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(function, *arguments): (function, arguments) for function, arguments in waiting}
            for future in as_completed(futures):
                try:
                    yield from future.result()
                except BrokenProcessPool:
                    unfinished.append(futures[future])
        if alone and len(unfinished) == len(waiting):
            yield _crashed(unfinished.pop(0))
        waiting = unfinished


def _crashed(job: tuple[Callable[..., list[Result]], tuple[Any, ...]]) -> Result:
    about = job[1][0]
    if isinstance(about, Entry):
        kinds = tuple(kind for kind, _ in about.steps)
        return Result(about.name, "any", about.reference, about.effect.label, kinds, [], 0.0, failed="process died")
    return Result(about, "benign", about.split("/")[0], "benign", (), [], 0.0, failed="process died")


def tables(results: Iterable[Result]) -> str:
    """The results as Markdown."""
    every = list(results)
    counted = [one for one in every if one.label in COUNTED]
    rows = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    for variant in VARIANTS:
        mine = [one for one in counted if one.variant == variant]
        if mine:
            rows.append(_row(variant, mine))
    benign = [one for one in every if one.label == "benign" and not one.failed]
    alarms = sum(bool(one.origins) for one in benign)
    failed = sum(bool(one.failed) for one in every if one.label == "benign")
    bound = upper_bound(alarms, len(benign))
    rows += ["", f"Benign: {alarms} false alarms on {len(benign)} pairs (95 % bound {bound:.1%}), {failed} failed."]
    for key in ("1e-05", "0.0001"):
        rows.append(f"Fixed tolerance {key}: {sum(one.fixed[key][0] for one in benign)} false alarms.")
    for label in ("invisible", "unreached", "equivalent", "healed"):
        mine = [one for one in every if one.label == label]
        found = sum(bool(one.origins) for one in mine)
        rows.append(f"{label}: something found in {found} of {len(mine)} candidates.")
    return "\n".join(rows)


def _row(variant: str, mine: list[Result]) -> str:
    def share(values: Iterable[bool]) -> str:
        known = list(values)
        return f"{sum(known)}/{len(known)} {sum(known) / max(1, len(known)):.1%}"

    scores = [one.score for one in mine]
    columns = [share(bool(one and getattr(one, name)) for one in scores) for name in
               ("detected", "exact", "small", "contained", "cause")]  # fmt: skip
    extra = sum(one.extra for one in scores if one)
    failed = sum(bool(one.failed) for one in mine)
    seconds = sorted(one.seconds for one in mine)[len(mine) // 2]
    fixed = [share(one.fixed[key][1] for one in mine if key in one.fixed) for key in ("1e-05", "0.0001")]
    peer = share(one.polygraphy[1] for one in mine if one.polygraphy)
    part = share(one.reduced[1] for one in mine if one.reduced)
    cells = [variant, str(len(mine)), *columns, str(extra), str(failed), f"{seconds:.2f}", *fixed, peer, part]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--references", nargs="*", default=[])
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--every", type=int, default=1, help="one mutant and one benign pair in so many")
    parser.add_argument("--no-benign", action="store_true")
    parser.add_argument("--polygraphy", type=int, default=0, help="ask Polygraphy about one mutant in so many")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=CACHE / "results.jsonl")
    options = parser.parse_args()
    chosen = [
        entry
        for entry in entries()
        if (not options.references or entry.reference in options.references)
        and (not options.kinds or any(kind in options.kinds for kind, _ in entry.steps))
    ][:: options.every]
    jobs: list[tuple[Callable[..., list[Result]], tuple[Any, ...]]] = [
        (judge_mutant, (entry, tuple(options.variants), bool(options.polygraphy) and i % options.polygraphy == 0))
        for i, entry in enumerate(chosen)
    ]
    if not options.no_benign:
        names = benign_names(references=tuple(options.references))
        jobs += [(judge_benign, (name,)) for name in names[:: options.every]]
    results = []
    with options.out.open("wb") as file:
        for result in spread(jobs, options.processes):
            file.write(msgspec.json.encode(result) + b"\n")
            file.flush()
            results.append(result)
    print(tables(results))


if __name__ == "__main__":
    main()
