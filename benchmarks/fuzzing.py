"""Faults that ordinary inputs do not show: how many are found without and with --fuzz, and after how many inputs.

usage: fuzzing.py [--inputs N] [--seeds N] [--ports N] [NAME…]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from benchmarks.fuzzed import FAULTS
from benchmarks.fuzzed.pairs import fault_sides, pair_of
from benchmarks.porting import models
from benchmarks.ports import PORTS

from regraft.conceptual.fuzzing import Fuzzed, fuzz
from regraft.deployment.verify import verify


class Result(NamedTuple):
    """What became of one fault, or of one correct port.

    Attributes:
        name, told: of it.
        plain: verdict of `verify` with the same weights, on its own feeds.
        found: seed by seed: inputs until the counterexample, None where there was none.
        last: of the last search.
        cpu_s: of one search, what was found made smaller.
    """

    name: str
    told: str
    plain: str
    found: list[int | None]
    last: Fuzzed
    cpu_s: float


def measured(name: str, told: str, sides: tuple[Any, Any, Any], *, inputs: int, seeds: int, plain: bool) -> Result:
    """Compare as `replicate` does, then search with several seeds."""
    pair, filled = pair_of(*sides)
    verdict = verify(sides[0], filled, localise=False).outcome if plain else ""
    found: list[int | None] = []
    began = time.process_time()
    for seed in range(seeds):
        last = fuzz(pair, seconds=3600, inputs=inputs, seed=seed)
        found.append(last.counterexample.inputs if last.counterexample else None)
    return Result(name, told, verdict, found, last, (time.process_time() - began) / seeds)


def table(results: Sequence[Result]) -> str:
    """As Markdown."""
    lines = [
        "| fault | without | found with, of seeds | inputs, mean | weights | smallest inputs | CPU s |",
        f"|{'---|' * 7}",
    ]
    for one in results:
        hits = [count for count in one.found if count is not None]
        mean = f"{sum(hits) / len(hits):.0f}" if hits else ""
        counter = one.last.counterexample
        small = "; ".join(f"{k} {list(v.shape)}" for k, v in counter.feeds.items()) if counter else ""
        weights = counter.checkpoint.name if counter else ""
        cells = [one.told, one.plain, f"{len(hits)} of {len(one.found)}", mean, weights, small, f"{one.cpu_s:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*FAULTS, *PORTS])
    parser.add_argument("--inputs", type=int, default=1000, help="most inputs of one search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ports", type=int, default=400, help="inputs for each correct port")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = []
    for name in asked.names:
        if name in FAULTS:
            sides = fault_sides(FAULTS[name])
            one = measured(name, FAULTS[name].name, sides, inputs=asked.inputs, seeds=asked.seeds, plain=True)
        else:
            sides = (*models(PORTS[name]), PORTS[name].feeds)
            one = measured(name, f"{name}: a correct port", sides, inputs=asked.ports, seeds=1, plain=False)
        results.append(one)
        print(f"{name}: {one.plain} {one.found} {one.cpu_s:.1f} s, {one.last.refusals} {one.last.rounding}",
              file=sys.stderr, flush=True)  # fmt: skip
    print(table(results))


if __name__ == "__main__":
    main()
