"""Steps: calls of verbs that depend on each other through what they find out and make."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from regraft.errors import InternalError
from regraft.package.reference import ModelRef
from regraft.record.evidence import JSON, Evidence
from regraft.workflow.engine.interface import Resources


class Given(msgspec.Struct, frozen=True):
    """A value of the plan. It shapes the result: another value makes another step."""

    value: JSON


class Setting(msgspec.Struct, frozen=True):
    """A value that does not shape the result (`offline`): the step stays the same."""

    value: JSON


class StoreHere(msgspec.Struct, frozen=True):
    """The store."""


class File(msgspec.Struct, frozen=True):
    """A file, passed as a path; the step depends on its content."""

    path: Path


class Named(msgspec.Struct, frozen=True):
    """A package as the user named it, passed as text; the step depends on the content that `pinned_by` found.

    Attributes:
        pinned_by: step whose evidence has the package as its first subject.
    """

    ref: ModelRef
    pinned_by: str


class Product(msgspec.Struct, frozen=True):
    """The package that a step made, passed as text."""

    step: str


class Found(msgspec.Struct, frozen=True):
    """The evidence of a step, also of one that failed or crashed."""

    step: str


class Out(msgspec.Struct, frozen=True):
    """Where this step is to write the package that it makes: a path at which nothing is yet. Never nested.

    Attributes:
        name: of the file or folder.
    """

    name: str


class Fields(msgspec.Struct, frozen=True):
    """Named arguments, passed as a dictionary."""

    fields: dict[str, Argument]


class Made(msgspec.Struct, frozen=True):
    """What a function (`module:function`) makes of named arguments in the step's own process."""

    function: str
    arguments: dict[str, Argument]


class Guarded(msgspec.Struct, frozen=True):
    """An argument that is left out when one of the steps in `needs` did not end well."""

    argument: Argument
    needs: tuple[str, ...] = ()


class Several(msgspec.Struct, frozen=True):
    """A list of what is left of guarded arguments. With nothing left the step is not done."""

    items: tuple[Guarded, ...]
    what: str = "items"


class Chosen(msgspec.Struct, frozen=True):
    """The one of several arguments that a step chose.

    Attributes:
        step: that chooses.
        among: name → argument.
        choice: the name, read from that step's evidence; None when it chose nothing.
    """

    step: str
    among: dict[str, Argument]
    choice: Callable[[Evidence], str | None]


Argument: TypeAlias = (
    Given | Setting | StoreHere | File | Named | Product | Found | Out | Fields | Made | Several | Chosen
)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a verb.

    Attributes:
        name: unique, for humans.
        verb: kind of the evidence in which it ends.
        function: `module:function`.
        version: raised whenever the same input may give another result.
        arguments: keyword arguments.
        subject: the argument that names the package judged, for the record of a step that died.
        needs: steps without whose good end (evidence, not fail) this one makes no sense.
        after: steps that must be over, well or not; it depends on what they found.
        seed: of everything random, when the key should tell.
        watches: files that are not passed and shape the result: the user's own code.
        runtimes: distributions whose version shapes the result.
        is_of_machine: its result holds for this processor and this number of cores only.
        is_volatile: what it looks at may change without notice, so it is always done.
        weighs: its verdict is part of the verdict of the run; else it only drops a candidate.
        about: the candidate or target, for tables.
    """

    name: str
    verb: str
    function: str
    arguments: dict[str, Argument]
    version: int = 1
    subject: str | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    seed: int | None = None
    watches: tuple[Path, ...] = ()
    runtimes: tuple[str, ...] = ()
    is_of_machine: bool = False
    is_volatile: bool = False
    weighs: bool = True
    about: str = ""
    resources: Resources = Resources()

    @property
    def out(self) -> Out | None:
        """What it makes, if anything."""
        return next((argument for argument in self.arguments.values() if isinstance(argument, Out)), None)


def dependencies(step: Step) -> set[str]:
    """Names of the steps that must be over before this one."""
    found = {*step.needs, *step.after}
    for argument in step.arguments.values():
        found.update(_mentioned(argument))
    return found


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Steps, each behind all that it depends on, else in the order given.

    Raises:
        InternalError: two of one name, a dependency that is not there, or a circle.
    """
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise InternalError(f"two steps are called {step.name!r}")
        by_name[step.name] = step
    for step in by_name.values():
        if missing := dependencies(step) - by_name.keys():
            raise InternalError(f"the step {step.name!r} depends on {min(missing)!r}, which is not there")
    sorter = graphlib.TopologicalSorter({name: sorted(dependencies(step)) for name, step in by_name.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise InternalError(f"steps depend on each other in a circle: {' → '.join(error.args[1])}") from error
    place = {name: index for index, name in enumerate(by_name)}
    ordered: list[Step] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        ordered += [by_name[name] for name in ready]
        sorter.done(*ready)
    return ordered


def _mentioned(argument: Argument) -> Iterator[str]:
    match argument:
        case Named():
            yield argument.pinned_by
        case Product() | Found():
            yield argument.step
        case Fields():
            for inner in argument.fields.values():
                yield from _mentioned(inner)
        case Made():
            for inner in argument.arguments.values():
                yield from _mentioned(inner)
        case Several():
            for item in argument.items:
                yield from item.needs
                yield from _mentioned(item.argument)
        case Chosen():
            yield argument.step
            for inner in argument.among.values():
                yield from _mentioned(inner)
