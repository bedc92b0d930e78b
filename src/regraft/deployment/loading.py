"""A model to judge or to convert, with the package that it came from: opened, hashed, permitted, loaded."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.deployment.bench.subject import Variant, prepare, served_subject
from regraft.errors import RegraftError, Unsupported, UsageError
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.digest import digest_chunks
from regraft.record.evidence import DigestKind, Subject
from regraft.runtime import model_path, require_runtime
from regraft.runtime.interface import Model
from regraft.runtime.permission import PermitSource, code_loader_of, leave_to_load
from regraft.runtime.served_model import SCHEMES, served_model
from regraft.runtime.vouched import load_vouched

if TYPE_CHECKING:
    from regraft.record.permit import Permit


class LoadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How models are opened and loaded.

    Attributes:
        runtime: None for the first that can load it.
        threads: intra-op threads; None for the runtime's default.
        precision: to demand of the runtime; None for what the package declares, else the runtime's choice.
        factory: `module:factory` of the user's own, for weights without an architecture.
        store: where fetched packages and scans are looked up.
        offline: no network.
        permit: leave for formats that can execute code; None takes the newest scan of these bytes in the store.
    """

    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    factory: str | None = None
    store: Any = None
    offline: bool = False
    permit: Any = None


class Opened(msgspec.Struct, frozen=True):
    """A model and where it is from.

    Attributes:
        subjects: the package and its files, as evidence names them; of a loaded model, its weights.
        model: None when it could not be loaded.
        error: why not.
        package: open package, None for code and loaded models.
        path: the file that was loaded.
        permit: what allowed it.
    """

    subjects: tuple[Subject, ...]
    model: Model | None = None
    error: RegraftError | None = None
    package: Package | None = None
    path: str = ""
    permit: Any = None


AnyModel = str | os.PathLike[str] | ModelRef | Package | Model | Opened
"""What a model may be named by: a reference, an open package, a loaded model, or what `opened` yielded before."""


@contextmanager
def opened(model: AnyModel, request: LoadRequest) -> Iterator[Opened]:
    """Open, hash and load; what was opened here is closed with the block.

    What cannot be loaded is told in `error`; what cannot be opened at all is raised.

    Raises:
        ReferenceSyntaxError, NotFound, AccessDenied, NetworkFailure, Offline, MissingExtra, UsageError.
    """
    if isinstance(model, Opened):
        yield model
        return
    if not isinstance(model, str | os.PathLike | ModelRef | Package):
        yield Opened((_weights_subject(model),), model)
        return
    ref = model if isinstance(model, ModelRef | Package) else parse_reference(model)
    if isinstance(ref, ModelRef) and ref.scheme == "py":
        yield _own_code(ref, request)
        return
    if isinstance(ref, ModelRef) and ref.scheme in SCHEMES:
        served = served_model(ref, offline=request.offline)
        yield Opened((served_subject(served),), served)
        return
    options = SourceOptions(offline=request.offline, store=request.store)
    package = open_package(ref, options=options)
    try:
        found = _loaded(package, request)
        try:
            yield found
        finally:
            if found.model is not None:
                found.model.close()
    finally:
        if package is not ref:
            package.close()


def _loaded(package: Package, request: LoadRequest) -> Opened:
    from regraft.errors import AmbiguousReference, MissingEnvironment, MissingExtra, UsageError

    manifest = package.manifest()
    subjects = tuple(package.subjects(manifest))
    permit: Permit | None = None
    path = ""
    try:
        path = model_path(package, runtime=request.runtime, factory=request.factory)
        source: PermitSource | None = request.permit
        permit = leave_to_load(package, path, source=source, store=request.store, runtime=request.runtime)
        model = load_vouched(
            package,
            permit,
            code_loader=code_loader_of(source),
            runtime=request.runtime,
            path=path,
            threads=request.threads,
            precision=request.precision,
            factory=request.factory,
        )
    except (AmbiguousReference, MissingEnvironment, MissingExtra, UsageError):
        raise
    except RegraftError as error:
        return Opened(subjects, error=error, package=package, path=path, permit=permit)
    return Opened(subjects, model, package=package, path=path, permit=permit)


def _own_code(ref: ModelRef, request: LoadRequest) -> Opened:
    from regraft.runtime.torch_factory import model_from_factory

    if request.runtime is not None:
        require_runtime(request.runtime)
    (found,) = prepare(ref, [None], store=request.store, offline=request.offline, permit=request.permit)
    if not isinstance(found, Variant):
        raise found.error
    try:
        model = model_from_factory(
            ref.location, threads=request.threads, precision=request.precision, runtime=request.runtime
        )
    except Unsupported as error:
        return Opened(found.subjects, error=error)
    except RegraftError:
        raise
    except (Exception, SystemExit) as error:  # a script's sys.exit(0) would end this verb as if it had passed
        raise _raised(error, ref) from error
    if request.runtime not in (None, model.runtime):
        what = f"what it builds runs in {model.runtime}, and not in {request.runtime}"
        hint = f"leave the runtime out, or convert it first: regraft convert {ref} --to onnx"
        return Opened(found.subjects, error=Unsupported(what, where=str(ref), hint=hint))
    return Opened(found.subjects, model)


def _raised(error: BaseException, ref: ModelRef) -> UsageError:
    """What the user's own code raised, with its file and line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"the factory raised {type(error).__name__}: {str(error)[:300]}"
    return UsageError(what, where=f"{ref}, {frame.filename}:{frame.lineno}")


def _weights_subject(model: Model) -> Subject:
    """A loaded model is known by its weights; what its code does is not covered."""
    from regraft.compare.precision import float_weights

    digest = digest_chunks(weight.tobytes() for weight in float_weights(model))
    return Subject(model.where or type(model).__name__, digest, DigestKind.PARTIAL)
