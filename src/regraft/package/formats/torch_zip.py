"""Torch's zip files: checkpoints, TorchScript, torch.package. Only pickles and small members are read.

Source: torch 2.13, caffe2/serialize/inline_container.cc (layout), torch/serialization.py, torch/package.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.archive import Archive, Member
from regraft.package.formats.array_types import item_bytes
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_tensors import Arrays, arrays_of, top_level
from regraft.package.formats.pickle_values import PickleStream
from regraft.package.limits import MAX_TEXT_BYTES

_LOCAL_HEADER = b"PK\x03\x04"
_SMALL_BYTES = 4096
_MAX_CODE_FILES = 20_000
_OPERATOR = re.compile(r"(?<![\w.])(?:torch|ops\.\w+)\.(\w+)\(")
_OWN_OPERATOR = re.compile(r"(?<![\w.])ops\.(\w+)\.(\w+)\(")


def root_of(probe: Probe) -> tuple[Archive, str] | None:
    """(archive, name of the folder that holds everything) of a torch zip; None when it cannot be one.

    torch asks for a zip signature in the first bytes and takes the folder from the first member.
    """
    if not probe.head.startswith(_LOCAL_HEADER):
        return None
    archive = probe.zip
    if archive is None or not archive.members:
        return None
    folder, slash, _ = archive.members[0].name.partition("/")
    return (archive, folder + "/") if slash else None


class TorchCheckpoint:
    """What `torch.save` writes since 1.6: a pickle that refers to storages in members of their own."""

    name = "torch-zip"
    title = "PyTorch checkpoint (zip)"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".pt", ".pth", ".bin", ".ckpt", ".pt.tar", ".pth.tar", ".pkl")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        found = root_of(probe)
        return found is not None and found[1] + "data.pkl" in found[0].by_name

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive, root = _found(probe)
        stream = read_member_pickle(archive, root + "data.pkl")
        arrays = arrays_of(stream.root, member=root + "data.pkl")
        problems = [*archive.problems, *_stream_problems(stream, root + "data.pkl"), *arrays.problems]
        problems += _storage_problems(archive, root + "data/", arrays)
        return Description(
            version=small_text(archive, root + "version"),
            tensors=arrays.tensors,
            parameters=parameters_of(arrays),
            metadata={
                **_facts(archive, root, ("byteorder", ".data/serialization_id", ".format_version")),
                **top_level(stream.root),
            },
            problems=tuple(problems + folder_problems(archive, root)),
        )


class TorchScript:
    """What `torch.jit.save` writes: a module as a pickle, its code as TorchScript source."""

    name = "torchscript"
    title = "TorchScript"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".pt", ".pth", ".jit", ".ts", ".ptl")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`: `torch.load` too takes a zip with constants for TorchScript."""
        found = root_of(probe)
        if found is None:
            return False
        archive, root = found
        return root + "constants.pkl" in archive.by_name and root + "data.pkl" in archive.by_name

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive, root = _found(probe)
        tensors: list[Tensor] = []
        problems: list[Problem] = list(archive.problems)
        parameters = 0
        for pickle, folder, prefix in (("data.pkl", "data/", ""), ("constants.pkl", "constants/", "constants.")):
            stream = read_member_pickle(archive, root + pickle)
            arrays = arrays_of(stream.root, prefix=prefix, member=root + pickle)
            tensors += arrays.tensors
            parameters += arrays.parameters if not prefix else 0
            problems += [*_stream_problems(stream, root + pickle), *arrays.problems]
            problems += _storage_problems(archive, root + folder, arrays)
        code = [member for member in archive.members if member.name.startswith(root + "code/")]
        sources = [member for member in code if member.name.endswith(".py")]
        operators = count_operators(archive, sources, problems)
        return Description(
            version=small_text(archive, root + "version"),
            tensors=tuple(tensors),
            parameters=parameters if parameters != sum(tensor.elements for tensor in tensors) else None,
            operators=operators,
            metadata={
                **_facts(archive, root, ("byteorder", ".data/serialization_id")),
                "code_files": str(len(sources)),
                **_named(member.name[len(root) :] for member in sources),
            },
            problems=tuple(problems + folder_problems(archive, root)),
        )


class TorchPackage:
    """What `torch.package` writes: pickles together with the Python source that they need."""

    name = "torch-package"
    title = "torch.package archive"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".pt", ".pkg", ".package")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        found = root_of(probe)
        if found is None:
            return False
        archive, root = found
        return any(root + name in archive.by_name for name in (".data/extern_modules", ".data/python_version"))

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive, root = _found(probe)
        tensors: list[Tensor] = []
        problems: list[Problem] = list(archive.problems)
        sources: list[str] = []
        resources: list[str] = []
        for member in archive.members:
            name = member.name[len(root) :]
            is_script = name.startswith(".data/ts_code/") and name.endswith("/data.pkl")
            if name.endswith(".py") and not name.startswith(".data/"):
                sources.append(name)
            elif is_script or (not name.startswith(".data/") and _is_pickle(archive, member)):
                resources.append(name)
                stream = read_member_pickle(archive, member.name)
                arrays = arrays_of(stream.root, prefix=f"{name.removesuffix('/data.pkl')}:", member=member.name)
                tensors += arrays.tensors
                problems += [*_stream_problems(stream, member.name), *arrays.problems]
        return Description(
            version=small_text(archive, root + ".data/version"),
            tensors=tuple(tensors),
            metadata={
                **_facts(archive, root, (".data/python_version", ".data/extern_modules", ".data/package_version")),
                "pickles": ", ".join(resources)[:2000],
                **_named(sources),
            },
            problems=tuple(problems + folder_problems(archive, root)),
        )


def read_member_pickle(archive: Archive, name: str) -> PickleStream:
    """Follow the pickle of a member.

    Raises:
        Damaged: there is no such member, or its content cannot be had.
    """
    if name not in archive.by_name:
        raise Damaged(f"the archive has no member {name!r}", where=archive.reader.where)
    return read_pickle(archive.open(archive.by_name[name]))


def small_text(archive: Archive, name: str) -> str | None:
    """The text of a member of at most 4 KiB; None when there is none that is readable."""
    member = archive.by_name.get(name)
    if member is None or member.size_bytes > _SMALL_BYTES:
        return None
    try:
        return archive.open(member).read_all(limit=_SMALL_BYTES).decode("utf-8", "replace").strip()
    except (Damaged, Unsupported, MissingExtra):
        return None


def parameters_of(arrays: Arrays) -> int | None:
    """Elements with shared ones counted once and without optimizer state; None when that is the plain sum."""
    plain = sum(tensor.elements for tensor in arrays.tensors)
    return None if arrays.parameters == plain else arrays.parameters


def count_operators(archive: Archive, sources: list[Member], problems: list[Problem]) -> dict[str, int]:
    """Operator → calls in the TorchScript source of some members: `aten::` for `torch.x(`, else its namespace."""
    counts: Counter[str] = Counter()
    budget = MAX_TEXT_BYTES
    for member in sources[:_MAX_CODE_FILES]:
        budget -= member.size_bytes
        if budget < 0:
            problems.append(Problem("more code than is read; operators are not all counted", None, None, "limit"))
            break
        try:
            text = archive.open(member).read_all(limit=MAX_TEXT_BYTES).decode("utf-8", "replace")
        except (Damaged, Unsupported, MissingExtra) as error:
            problems.append(Problem(error.what, None, member.name, "damaged"))
            continue
        counts.update(f"{space}::{name}" for space, name in _OWN_OPERATOR.findall(text))
        counts.update(f"aten::{match[1]}" for match in _OPERATOR.finditer(text) if match[0].startswith("torch."))
    return dict(counts.most_common())


def folder_problems(archive: Archive, root: str) -> list[Problem]:
    """Members outside of the folder that torch takes from the first member: no torch loader reads them."""
    outside = [member.name for member in archive.members if not member.name.startswith(root)]
    if not outside:
        return []
    what = f"{len(outside)} members lie outside of {root!r}, where the loader does not look"
    return [Problem(what, None, outside[0], "outside-folder")]


def _found(probe: Probe) -> tuple[Archive, str]:
    found = root_of(probe)
    if found is None:
        raise Damaged("not a torch zip", where=probe.name)
    return found


def _stream_problems(stream: PickleStream, member: str) -> list[Problem]:
    problem = stream.problem
    return [] if problem is None else [Problem(problem.what, problem.offset, member, "pickle")]


def _storage_problems(archive: Archive, folder: str, arrays: Arrays) -> Iterator[Problem]:
    """Storages that are missing, or smaller than the pickle says."""
    for storage in list(arrays.storages.values()):
        member = archive.by_name.get(folder + storage.key)
        width = item_bytes(storage.dtype)
        if member is None:
            yield Problem(f"no member for the storage {storage.key!r}", None, folder + storage.key, "missing-storage")
        elif width and storage.elements is not None and member.size_bytes < storage.elements * width:
            what = f"{member.size_bytes} bytes for {storage.elements} elements of {storage.dtype}"
            yield Problem(what, None, member.name, "size-mismatch")


def _facts(archive: Archive, root: str, names: tuple[str, ...]) -> dict[str, str]:
    found = {name.rpartition("/")[2].lstrip("."): small_text(archive, root + name) for name in names}
    return {name: text for name, text in found.items() if text is not None}


def _named(names: Iterator[str] | list[str]) -> dict[str, str]:
    text = ", ".join(names)[:2000]
    return {"code": text} if text else {}


def _is_pickle(archive: Archive, member: Member) -> bool:
    try:
        return archive.open(member).read_at(0, 2)[:1] == b"\x80"
    except (Damaged, Unsupported, MissingExtra):
        return False
