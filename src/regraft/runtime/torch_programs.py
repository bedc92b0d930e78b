"""Programs of eager networks, exported once for inputs of one shape: an export takes as long as many passes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds
    from regraft.runtime.torch_export import TorchExportModel
    from regraft.runtime.torch_module import TorchModel

_Programs: TypeAlias = "WeakKeyDictionary[TorchModel, dict[object, TorchExportModel]]"
_kept: ContextVar[_Programs | None] = ContextVar("programs", default=None)


@contextlib.contextmanager
def keeping_programs() -> Iterator[None]:
    """Within it, `program_of` exports no network twice; inside of another one, that one's programs serve.

    A network that is changed within it, other than its numbers, is not exported anew.
    """
    if _kept.get() is not None:
        yield
        return
    token = _kept.set(WeakKeyDictionary())
    try:
        yield
    finally:
        _kept.reset(token)


def program_of(model: TorchModel, feeds: Feeds) -> TorchExportModel:
    """The operators of an eager network, which shares its weights; to be read, and not to be changed.

    Args:
        model: eager.
        feeds: example inputs, of which shapes and dtypes alone matter.
    Raises:
        Unsupported: torch.export cannot follow the network.
    """
    kept = _kept.get()
    if kept is None:
        return _exported(model, feeds)
    key = tuple((name, value.shape, str(value.dtype)) for name, value in sorted(feeds.items()))
    programs = kept.setdefault(model, {})
    if key not in programs:
        programs[key] = _exported(model, feeds)
    return programs[key]


def _exported(model: TorchModel, feeds: Feeds) -> TorchExportModel:
    from regraft.runtime.torch_export import TorchExportModel, exported

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of itself when it copies a graph
        return TorchExportModel.from_program(exported(model, feeds), where=model.where)
