"""What a benchmark and the process that measures one model say to each other, as lines of JSON."""

from __future__ import annotations

import msgspec

from regraft.deployment.budget import Machine
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
        code_loader: what loads under leave to run code of the package, as `module:function`.
        feeds_file: arrays for one pass; None for texts or made-up values.
        texts: what text packages are fed; empty for `DEFAULT_TEXTS`.
        store: folder of the store that the package was fetched to.
    """

    ref: ModelRef
    path: str | None = None
    permit: Permit | None = None
    code_loader: str = ""
    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    feeds_file: str | None = None
    texts: tuple[str, ...] = ()
    store: str | None = None
    offline: bool = False
    seed: int = 0


class Size(msgspec.Struct, frozen=True):
    """How large a pass is.

    Attributes:
        batch: rows.
        length: tokens of each text, or of every other symbolic dimension; None for the lengths that the inputs have.
    """

    batch: int
    length: int | None = None


class Warm(msgspec.Struct, frozen=True, tag=True):
    """Run passes of a size until their time settles."""

    size: Size


class Turn(msgspec.Struct, frozen=True, tag=True):
    """Time passes of a size: `count` of them, or as many as fit into `time_limit_s`, at least one."""

    size: Size
    count: int
    time_limit_s: float


class Agree(msgspec.Struct, frozen=True, tag=True):
    """Compare what two models answer. The first is loaded once for all that are compared with it."""

    reference: Start
    candidate: Start


class Agreed(msgspec.Struct, frozen=True, tag=True):
    """How far one model is from another.

    Attributes:
        floors: error at the worst output, in noise floors of float32 of the reference.
        benign_up_to: that many rounding explains.
        relative: the same error over the size of the output.
        flips, decisions: largest scores that are another class's, of how many; 0 of 0 for outputs that are no scores.
        output: the worst one.
        feeds: passes compared.
    """

    floors: float
    benign_up_to: float
    relative: float
    flips: int
    decisions: int
    output: str
    feeds: int


class Describe(msgspec.Struct, frozen=True, tag=True):
    """Measure the processor on so many threads, in a process that has done nothing else."""

    threads: int


class Described(msgspec.Struct, frozen=True, tag=True):
    """Its rates."""

    machine: Machine


class Started(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded.

    Attributes:
        load_ms: wall time, with the import of the runtime's libraries; no pass is made and no input prepared yet.
        pid: of the worker.
        own_batch: rows of a pass when the user's arrays fix it.
        inputs: what it is fed with, for a human.
        is_made_up: the inputs are not the user's.
        packages: library → version.
        no_energy: why energy cannot be measured here; empty where it can.
    """

    load_ms: float
    pid: int
    runtime: str
    precision: str
    inputs: str
    is_made_up: bool
    own_batch: int | None
    packages: dict[str, str]
    no_energy: str = ""


class Warmed(msgspec.Struct, frozen=True, tag=True):
    """The time of a pass has settled, or was given up on. `inputs` also says what came out."""

    warm_up: WarmUp
    inputs: str


class Timed(msgspec.Struct, frozen=True, tag=True):
    """Timed passes. `began_s` is on the machine's monotonic clock, which all processes share.

    The pass before the first of them was made and dropped: the caches belonged to another model until then.
    `peak_mib` is of the process that runs the network; None where nobody tells it. `energy_j` is that of the whole
    processor meanwhile; None where it has no counters.
    """

    began_s: float
    samples: list[Sample]
    peak_mib: float | None
    energy_j: float | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request could not be met."""

    code: str
    what: str
    hint: str = ""


Request = Start | Warm | Turn | Agree | Describe
Answer = Started | Warmed | Timed | Agreed | Described | Failed
