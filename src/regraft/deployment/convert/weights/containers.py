"""The containers of weights that there are, by their form and by the formats of files."""

from __future__ import annotations

from regraft.deployment.convert.weights.gguf_file import GgufFile
from regraft.deployment.convert.weights.hdf5_file import Hdf5File
from regraft.deployment.convert.weights.interface import Container
from regraft.deployment.convert.weights.npz_file import NpzFile
from regraft.deployment.convert.weights.safetensors_file import SafetensorsFile
from regraft.deployment.convert.weights.torch_file import TorchFile
from regraft.errors import Unsupported, UsageError

_MEMBERS: tuple[Container, ...] = (SafetensorsFile(), NpzFile(), Hdf5File(), GgufFile(), TorchFile())


def container_for(form: str) -> Container:
    """The container that a user means by `--to`.

    Raises:
        UsageError: there is none of that name.
    """
    found = next((member for member in _MEMBERS if member.form == form), None)
    if found is None:
        names = ", ".join(member.form for member in _MEMBERS)
        raise UsageError(f"{form!r} is no container of weights", hint=f"one of: {names}")
    return found


def readable_formats() -> frozenset[str]:
    """Formats of files that weights are read from, an index of shards included."""
    return frozenset({"weight-index", *(name for member in _MEMBERS for name in member.formats)})


def container_of(kind: str, where: str) -> Container:
    """The container that files of a format are read with.

    Raises:
        Unsupported: none; the formats that are read are listed.
    """
    found = next((member for member in _MEMBERS if kind in member.formats), None)
    if found is None:
        known = ", ".join(name for member in _MEMBERS for name in member.formats)
        raise Unsupported(
            f"no container of weights: the format is {kind or 'unknown'}", where=where, hint=f"read are: {known}"
        )
    return found
