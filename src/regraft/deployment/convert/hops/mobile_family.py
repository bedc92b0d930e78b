"""Converters to what phones run, from exported programs: one table, as they differ in the library alone.

Each is a script in the environment `mobile`, which is handed the program as a file; code of the user's never runs
there.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.foreign import Made, run_script
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing, unmade
from regraft.errors import Unsupported
from regraft.package.package import open_package
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    from regraft.package.formats import Port
    from regraft.runtime.interface import Feeds

_ENVIRONMENT = "mobile"
_PROGRAM = "model.pt2"


class MobileConverter:
    """A converter that a script in the environment `mobile` is.

    Args:
        target: form.
        script: name, as `run_script` takes it.
        does: a sentence for the reference, as other converters have it as the docstring of their class.
    """

    source = "torch-export"
    cost = 10

    def __init__(self, target: str, script: str, does: str) -> None:
        self.target = target
        self.name = f"{target}_from_torch_export"
        self.__doc__ = does
        self._script = script

    def obstacle(self) -> str:
        """PyTorch must be installed, and the environment made."""
        return missing("torch", extra="torch") or unmade(_ENVIRONMENT)

    def convert(self, source: Source) -> Hop:
        """Fix every free size to that of one sample, and run the script on the program.

        The libraries lower sizes that are numbers alone: litert-torch hands operators to JAX, and ExecuTorch plans
        memory for the largest tensor there can be.

        Raises:
            Unsupported: the program cannot be fixed to these sizes, or the library refuses; the message is its own.
            Crashed: it died, hung, or took too much memory.
        """
        from regraft.runtime.torch_export import TorchExportModel, exported
        from regraft.runtime.torch_program import program_bytes

        model = source.loaded()
        if not isinstance(model, TorchExportModel):
            raise Unsupported(f"a {type(model).__name__} is no exported program", where=source.where)
        feeds = one_sample(source.feeds, model.signature.inputs, given=source.given)
        free = {
            extent: size
            for port in model.signature.inputs
            for extent, size in zip(port.shape or (), feeds[port.name].shape, strict=False)
            if not isinstance(extent, int)
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = program_bytes(exported(model, feeds, fixed=[str(name) for name in free]))
        made = self._made(content, source.where)
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        notes = (f"the sizes are fixed: {shapes}", *made.notes) if free else made.notes
        return Hop(made.files, self.target, notes, made.versions, precision=None, is_one_size=bool(free))

    def _made(self, content: bytes, where: str) -> Made:
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            (Path(folder) / _PROGRAM).write_bytes(content)
            with open_package(folder) as package:
                handed_over = Source(None, (), VerifiedFiles(package), _PROGRAM, where)
                return run_script(_ENVIRONMENT, self._script, handed_over)


def one_sample(cases: Sequence[Feeds], ports: Sequence[Port] = (), *, given: int = 0) -> Feeds:
    """The largest of the cases that hold one sample: of the user's own, where there are such, else of all.

    Of a batch of the user's own its first row is taken, of others where none holds one sample.

    Args:
        cases: the user's own first; where no row can be cut out of any, the first is taken as it is.
        ports: inputs of the model.
        given: number of the user's own.
    """
    rows = [_first_row(case, ports) for case in cases]
    choices = ([case for case in some if _is_single(case)] for some in (rows[:given], cases, rows))
    single = next((some for some in choices if some), cases[:1])
    return max(single, key=lambda case: sum(value.size for value in case.values()))


def _is_single(case: Feeds) -> bool:
    return all(value.shape[:1] in ((1,), ()) for value in case.values())


def _first_row(case: Feeds, ports: Sequence[Port]) -> Feeds:
    """Cut where every input has a batch: a free first axis, as long in all of them and under one name."""
    firsts = {port.shape[0] if port.shape else None for port in ports if port.shape != ()}
    rows = {value.shape[0] for value in case.values() if value.ndim}
    if len(firsts) != 1 or len(rows) != 1 or not isinstance(firsts.pop(), str):
        return case
    return {name: value[:1] if value.ndim else value for name, value in case.items()}


FAMILY = (
    MobileConverter(
        "litert", "litert_from_program", "Lowers programs to TFLite by litert-torch, at the sizes of one sample."
    ),
    MobileConverter(
        "executorch", "executorch_from_program",
        "Lowers programs to ExecuTorch with XNNPACK, at the sizes of one sample.",
    ),
    MobileConverter(
        "coreml", "coreml_from_program",
        "Converts programs to Core ML by coremltools, at the sizes of one sample; nothing runs it here.",
    ),
)  # fmt: skip
"""Every one of them."""
