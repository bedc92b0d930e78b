"""What an engine is: it calls functions in processes that may crash, hang or eat memory, and says how each ended."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol, TypeAlias

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import JSON


class Plain(msgspec.Struct, frozen=True, tag="plain"):
    """A JSON value, passed as it is."""

    value: JSON


class PathAt(msgspec.Struct, frozen=True, tag="path"):
    """A file or folder, passed as a `Path`."""

    path: str


class EvidenceAt(msgspec.Struct, frozen=True, tag="evidence"):
    """A piece of evidence in the task's store, passed as `Evidence`."""

    digest: Digest


class TheStore(msgspec.Struct, frozen=True, tag="store"):
    """The task's store, passed as `Store`."""


class Items(msgspec.Struct, frozen=True, tag="items"):
    """Several values, passed as a list."""

    items: tuple[Value, ...]


class Fields(msgspec.Struct, frozen=True, tag="fields"):
    """Named values, passed as a dictionary."""

    fields: dict[str, Value]


class Made(msgspec.Struct, frozen=True, tag="made"):
    """What a function (`module:function`) of Regraft makes of named values, passed as it returns it."""

    function: str
    arguments: dict[str, Value]


Value: TypeAlias = Plain | PathAt | EvidenceAt | TheStore | Items | Fields | Made
"""How an argument travels to another process: JSON that names files, never a pickle."""


class Resources(msgspec.Struct, frozen=True):
    """What a task may use.

    Attributes:
        cores: how many it keeps busy; 0 for all, so that nothing else runs beside it.
        memory_bytes: of it and its children together; None for no limit.
        time_s: wall time; None for no limit.
        is_fresh: it wants a process that nothing ran in before, for what it measures.
    """

    cores: int = 1
    memory_bytes: int | None = None
    time_s: float | None = None
    is_fresh: bool = False


class Task(msgspec.Struct, frozen=True):
    """One call.

    Attributes:
        name: unique among the tasks under way.
        function: `module:function`; it returns `Evidence`, an object that has `.evidence`, or several of them,
            the first of which is the one that counts.
        arguments: its keyword arguments.
        folder: an empty folder of the task's own; what stands in it afterwards belongs to who submitted it.
        store: root of the store.
    """

    name: str
    function: str
    arguments: dict[str, Value]
    folder: str
    store: str
    resources: Resources = Resources()


class Ending(StrEnum):
    """How a task ended."""

    DONE = "done"
    """It returned evidence, whatever that says."""
    REFUSED = "refused"
    """It raised an error that Regraft foresees."""
    RAISED = "raised"
    """It raised another exception, or returned no evidence."""
    CRASHED = "crashed"
    """Its process died."""
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"


class Problem(msgspec.Struct, frozen=True):
    """Why a task has no evidence, as `RegraftError` has it."""

    code: str
    what: str
    where: str = ""
    hint: str = ""


class Usage(msgspec.Struct, frozen=True):
    """What a task cost. None: the operating system does not tell.

    Attributes:
        wall_s: from its start in the process to its end.
        cpu_s: of the process and its children.
        peak_memory_bytes: resident, of the process and its children at one moment.
    """

    wall_s: float
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class Started(msgspec.Struct, frozen=True):
    """A task is now running."""

    task: Task


class Progressed(msgspec.Struct, frozen=True):
    """A running task said how far it is: `done` of `total` (None: unknown) `unit` of `what`."""

    task: Task
    what: str
    done: int
    total: int | None
    unit: str


class Ended(msgspec.Struct, frozen=True):
    """A task is over.

    Attributes:
        evidence: JSON of each piece of evidence when `ending` is DONE, else none.
        problem: set when `ending` is not DONE.
        log: the tail of what it wrote to stdout and stderr; empty when it wrote nothing.
    """

    task: Task
    ending: Ending
    usage: Usage
    evidence: tuple[bytes, ...] = ()
    problem: Problem | None = None
    log: bytes = b""


Event: TypeAlias = Started | Progressed | Ended


class Engine(Protocol):
    """Runs tasks. One module a member, listed in `engine/__init__.py`. A task's death never reaches its caller."""

    def submit(self, task: Task) -> None:
        """Take a task; it starts when there is room for what it asks, in the order of submission."""

    def events(self) -> Iterator[Event]:
        """What happens, until every submitted task ended. Tasks may be submitted between two events.

        Progress is also told to the listener of `regraft.progress`.
        """

    def cancel(self) -> None:
        """Stop everything at once; what runs is killed with all its children. No event follows."""

    def close(self) -> None:
        """Free what the engine holds; cancels what is left."""
