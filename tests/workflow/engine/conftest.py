"""Engines, and tasks for them, from functions that workers can import."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regraft.workflow.engine.interface import Ended, Plain, Resources, Task
from regraft.workflow.engine.local import LocalEngine

sys.path.append(str(Path(__file__).parent))  # task_functions, here and in the workers


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(import_from=[str(Path(__file__).parent)], cores=2) as engine:
        yield engine


@pytest.fixture
def task(tmp_path) -> Callable[..., Task]:
    numbers = itertools.count()

    def make(function: str, *, resources: Resources | None = None, values=None, **arguments: object) -> Task:
        number = next(numbers)
        folder = tmp_path / f"task{number}"
        folder.mkdir()
        plain = {name: Plain(value) for name, value in arguments.items()}
        name = f"{function} {number}"
        reference = f"task_functions:{function}"
        return Task(
            name, reference, plain | (values or {}), str(folder), str(tmp_path / "store"), resources or Resources()
        )

    return make


@pytest.fixture
def ends(engine) -> Callable[..., list[Ended]]:
    """Run tasks; how each ended, in the order given."""

    def run(*tasks: Task) -> list[Ended]:
        for one in tasks:
            engine.submit(one)
        ended = {event.task.name: event for event in engine.events() if isinstance(event, Ended)}
        return [ended[one.name] for one in tasks]

    return run
