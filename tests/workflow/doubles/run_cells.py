"""Does a small graph of steps: `run_cells.py STORE SEED`. A line `over NAME STATUS` for each step that is over."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from regraft.record.store import Store
from regraft.workflow.engine.local import LocalEngine
from regraft.workflow.execute import execute
from regraft.workflow.state import StepState
from regraft.workflow.steps import Fields, Found, Given, Guarded, Out, Product, Several, Step, StoreHere

CELLS = 12
__all__ = ["CELLS", "Fields", "Product", "StoreHere", "cells", "main"]


def cells(seed: int) -> list[Step]:
    """Steps of which each depends on up to two before it; every second makes a file."""
    draw = random.Random(seed)
    steps: list[Step] = []
    for number in range(CELLS):
        parents = draw.sample(steps, min(len(steps), draw.randrange(3)))
        arguments = {"name": Given(f"cell {number}")}
        if parents:
            arguments["parents"] = Several(tuple(Guarded(Found(parent.name)) for parent in parents))
        if number % 2:
            arguments["out"] = Out(f"cell-{number}.txt")
        steps.append(Step(name=f"cell {number}", verb="inspect", function="verb_doubles:cell", arguments=arguments))
    return steps


def tell(state: StepState) -> None:
    if state.status.is_over:
        print("over", state.step.name, state.status.value, flush=True)


def main() -> None:
    with LocalEngine(import_from=[str(Path(__file__).parent)], cores=2) as engine:
        execute(cells(int(sys.argv[2])), store=Store(Path(sys.argv[1])), engine=engine, watch=tell)


if __name__ == "__main__":
    main()
