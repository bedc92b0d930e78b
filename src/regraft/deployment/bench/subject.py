"""What a benchmark measures: a package in one runtime, with its digest, its size and the leave to load it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from regraft.errors import NotFound, RegraftError
from regraft.package.manifest import Manifest
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.digest import digest_bytes
from regraft.record.evidence import DigestKind, Subject
from regraft.record.permit import Permit
from regraft.record.store import Store
from regraft.runtime import model_path
from regraft.runtime.permission import PermitSource, code_loader_of, leave_to_load, stored_permit
from regraft.runtime.served_model import SCHEMES, ServedModel, served_model


class Variant(msgspec.Struct, frozen=True):
    """One package in one runtime.

    Attributes:
        ref: pinned.
        subjects: the package and its files, as evidence names them.
        size_bytes: of all files of the package; None for code of the user's own, and behind a server.
        path: the file of the model.
        runtime: None for the first that can load it.
        label: in place of the package's own name, where several have the same.
        threads: None for the runtime's default.
        precision: that was demanded; None for the runtime's choice.
        code_loader: what loads under leave to run code, as `module:function`.
    """

    ref: ModelRef
    subjects: tuple[Subject, ...]
    size_bytes: int | None
    path: str | None
    permit: Permit | None
    runtime: str | None
    label: str | None = None
    threads: int | None = None
    precision: str | None = None
    code_loader: str = ""

    @property
    def is_elsewhere(self) -> bool:
        """It runs behind a server, whose memory and CPU time are not seen from here."""
        return self.ref.scheme in SCHEMES

    @property
    def name(self) -> str:
        """How tables name the package."""
        return self.label or self.subjects[0].name


def with_settings(
    variants: Sequence[Variant], threads: Sequence[int | None], precisions: Sequence[str | None]
) -> list[Variant]:
    """Each variant in each number of threads and each precision; how many a server takes is not told it."""
    return [
        msgspec.structs.replace(one, threads=count, precision=precision)
        for one in variants
        for precision in precisions
        for count in ([None] if one.is_elsewhere else threads)
    ]


class Refused(msgspec.Struct, frozen=True):
    """A reference that cannot be measured in a runtime, and why."""

    ref: str
    runtime: str | None
    error: RegraftError


def prepare(
    ref: str | os.PathLike[str] | ModelRef,
    runtimes: Sequence[str | None],
    *,
    store: Store | None,
    offline: bool,
    permit: PermitSource | None,
) -> Iterator[Variant | Refused]:
    """Open a package, hash it, and find what each runtime would load of it.

    Args:
        permit: None takes it from the newest scan of these very bytes in the store.
    """
    try:
        parsed = ref if isinstance(ref, ModelRef) else parse_reference(ref)
        if parsed.scheme in SCHEMES:
            served = served_model(parsed, offline=offline)
            yield Variant(parsed, (served_subject(served),), None, None, None, None)
            return
        if parsed.scheme == "py":
            yield Variant(parsed, (_code_subject(parsed),), None, None, None, None)
            return
        package = open_package(parsed, options=SourceOptions(offline=offline, store=store))
    except RegraftError as error:
        yield Refused(str(ref), None, error)
        return
    with package:
        manifest = package.manifest()
        for runtime in runtimes:
            try:
                yield _variant(package, manifest, runtime, store, permit)
            except RegraftError as error:
                yield Refused(str(package.ref), runtime, error)


def told_apart(variants: Sequence[Variant]) -> list[Variant]:
    """The same variants; packages that share a name are called by their references, copies of one package, too."""
    packages = {(one.name, str(one.ref)) for one in variants}
    names = [name for name, _ in packages]
    return [msgspec.structs.replace(one, label=str(one.ref)) if names.count(one.name) > 1 else one for one in variants]


def _variant(
    package: Package, manifest: Manifest, runtime: str | None, store: Store | None, permit: PermitSource | None
) -> Variant:
    path = model_path(package, runtime=runtime)
    leave = leave_to_load(package, path, source=permit, store=store, runtime=runtime)
    loader = code_loader_of(permit)
    size = sum(entry.size_bytes for entry in manifest.entries)
    return Variant(package.ref, tuple(package.subjects(manifest)), size, path, leave, runtime, code_loader=loader)


def served_subject(model: ServedModel) -> Subject:
    """A server is known by its address and what it says of the model: its bytes nobody has seen."""
    said = msgspec.json.encode(model.metadata)
    return Subject(model.where, digest_bytes(model.where.encode() + b"\n" + said), DigestKind.PARTIAL)


def _code_subject(ref: ModelRef) -> Subject:
    """The user's own code, by its name and the file that its module lies in; what that imports is not covered."""
    module = ref.location.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise NotFound(f"cannot import {module}: {error}", where=str(ref)) from error
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise NotFound(f"there is no module {module}", where=str(ref), hint="is its folder on PYTHONPATH?")
    content = Path(spec.origin).read_bytes()
    return Subject(str(ref), digest_bytes(f"{ref.location}\n".encode() + content), DigestKind.PARTIAL)


__all__ = ["PermitSource", "Refused", "Variant", "prepare", "served_subject", "stored_permit", "told_apart"]
