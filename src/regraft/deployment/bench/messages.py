"""What a benchmark and the process that measures one model say to each other, as lines of JSON."""

from __future__ import annotations

import msgspec

from regraft.package.reference import ModelRef
from regraft.record.permit import Permit
from regraft.runtime.measure import Sample, WarmUp

WARM_UP_S = 5.0
"""Time after which a model that has not settled is measured as it is."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load a model.

    Attributes:
        ref: pinned reference; `py:` for the user's own network.
        path: the file of the model within the package.
        permit: leave from a scan, where the format needs one.
        feeds_file: arrays for one pass; None for texts or made-up values.
        texts: what text packages are fed; empty for `DEFAULT_TEXTS`.
        store: folder of the store that the package was fetched to.
    """

    ref: ModelRef
    path: str | None = None
    permit: Permit | None = None
    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    feeds_file: str | None = None
    texts: tuple[str, ...] = ()
    store: str | None = None
    offline: bool = False
    seed: int = 0


class Warm(msgspec.Struct, frozen=True, tag=True):
    """Run passes of `batch` rows until their time settles."""

    batch: int


class Turn(msgspec.Struct, frozen=True, tag=True):
    """Time passes of `batch` rows: `count` of them, or as many as fit into `time_limit_s`, at least one."""

    batch: int
    count: int
    time_limit_s: float


class Started(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded.

    Attributes:
        load_ms: wall time, with the import of the runtime's libraries.
        pid: of the worker.
        own_batch: rows of a pass when the user's arrays fix it.
        inputs: what it is fed with, for a human.
        is_made_up: the inputs are not the user's.
        packages: library → version.
    """

    load_ms: float
    pid: int
    runtime: str
    precision: str
    inputs: str
    is_made_up: bool
    own_batch: int | None
    packages: dict[str, str]


class Warmed(msgspec.Struct, frozen=True, tag=True):
    """The time of a pass has settled, or was given up on."""

    warm_up: WarmUp


class Timed(msgspec.Struct, frozen=True, tag=True):
    """Timed passes. `began_s` is on the machine's monotonic clock, which all processes share.

    The pass before the first of them was made and dropped: the caches belonged to another model until then.
    """

    began_s: float
    samples: list[Sample]
    peak_mib: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request could not be met."""

    code: str
    what: str
    hint: str = ""


Request = Start | Warm | Turn
Answer = Started | Warmed | Timed | Failed
