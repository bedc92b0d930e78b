"""Load: a model that can be called, from a reference. What could execute code is scanned first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import PermitRefused, UsageError
from regraft.package.formats.loading_policies import policy_for
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Finding, Record, Verdict
from regraft.record.permit import Permit, Scope, permit_from_scan
from regraft.runtime import load as load_permitted
from regraft.runtime import model_path, needs_permit
from regraft.runtime.interface import Model
from regraft.trust.scan import scan
from regraft.trust.scan.pickle import UNLISTED

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.pooling import Pooling
    from regraft.runtime.text import TextEncoder
    from regraft.runtime.torch_weights import Weights


class Permitted(msgspec.Struct, frozen=True):
    """What may be loaded.

    Attributes:
        package: open package; it is closed with the block that yielded this.
        path: the file of the model.
        permit: leave from a scan, None where the format can only hold data.
    """

    package: Package
    path: str
    permit: Permit | None


def load(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    factory: str | None = None,
    head: bool = True,
    trust_code: bool = False,
    store: Store | None = None,
    offline: bool = False,
) -> Model:
    """Load a model, scanning its package first where loading could execute code.

    Args:
        ref: a reference as a user writes it, a parsed one, or an open package; `py:module:factory` is the
            user's own network and is called as it is.
        runtime: `torch`, `onnxruntime`, `openvino`, `numpy`; None for the first that can load it.
        threads: intra-op threads; None for the runtime's default.
        precision: computation precision to demand, as `float32`.
        factory: `module:factory` of the user's own, for weights whose package does not say which network they are.
        head: with the task head that the package declares; False for the backbone alone, whose output is features.
        trust_code: the user vouches for the package's code; it runs in the sandbox, and nowhere else.
        store: where fetched packages are looked up, and where the scan is kept.
        offline: no network.
    Returns:
        the model; `close` it when done.
    Raises:
        PermitRefused: the scan found danger, could not decide, or the package's own code would have to run.
        AmbiguousReference: the package has several models; name one after `#`.
        Unsupported, MissingExtra, NotFound, Damaged, DigestMismatch.
    """
    if not isinstance(ref, Package):
        ref = ref if isinstance(ref, ModelRef) else parse_reference(ref)
        if ref.scheme == "py":
            from regraft.runtime.torch_factory import model_from_factory

            return model_from_factory(ref.location, threads=threads, precision=precision)
    if factory is not None:
        factory = _own_code(factory)
        if trust_code:
            raise UsageError(
                "a factory is your own code and runs here, so the package's own is not needed",
                where=factory,
                hint="leave --trust-code out; regraft.load_weights(allow=…) takes reviews of names in pickles",
            )
    with permitted(
        ref, runtime=runtime, factory=factory, trust_code=trust_code, store=store, offline=offline
    ) as allowed:
        if allowed.permit is not None and allowed.permit.scope is Scope.CODE:
            from regraft.workflow.sandboxed import load_sandboxed

            return load_sandboxed(
                allowed.package,
                allowed.permit,
                path=allowed.path,
                runtime=runtime,
                threads=threads,
                precision=precision,
                head=head,
            )
        return load_permitted(
            allowed.package,
            allowed.permit,
            runtime=runtime,
            path=allowed.path,
            threads=threads,
            precision=precision,
            factory=factory,
            head=head,
        )


def load_text(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    pooling: Pooling | None = None,
    trust_code: bool = False,
    store: Store | None = None,
    offline: bool = False,
) -> TextEncoder:
    """Load a text package whole, tokenizer and pooling included: strings in, one vector a text out.

    Args:
        ref, runtime, threads, precision, trust_code, store, offline: as `load`.
        pooling: in place of what the package says.
    Raises:
        As `load`.
    """
    from regraft.runtime.text import load_text_encoder

    with permitted(ref, runtime=runtime, trust_code=trust_code, store=store, offline=offline) as allowed:
        if allowed.permit is not None and allowed.permit.scope is Scope.CODE:
            from regraft.workflow.sandboxed import load_text_sandboxed

            return load_text_sandboxed(
                allowed.package,
                allowed.permit,
                path=allowed.path,
                pooling=pooling,
                runtime=runtime,
                threads=threads,
                precision=precision,
            )
        return load_text_encoder(
            allowed.package,
            allowed.permit,
            runtime=runtime,
            path=allowed.path,
            threads=threads,
            precision=precision,
            pooling=pooling,
        )


@contextlib.contextmanager
def permitted(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    runtime: str | None = None,
    factory: str | None = None,
    trust_code: bool = False,
    store: Store | None = None,
    offline: bool = False,
) -> Iterator[Permitted]:
    """Open a package, choose its model, and scan it where loading that could execute code.

    Args:
        As `load`.
    Raises:
        As `load`.
    """
    package = open_package(ref, options=SourceOptions(offline=offline, store=store))
    try:
        path = model_path(package, runtime=runtime, factory=factory)
        is_scanned = trust_code or needs_permit(package, path)
        if is_scanned:
            permit = _permit(package, trust_code=trust_code, store=store)
        else:
            permit = None
            _refuse_danger(package, store)
        yield Permitted(package, path, permit)
    finally:
        if package is not ref:
            package.close()


def load_weights(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    allow: Collection[str] = (),
    allow_file: str | os.PathLike[str] | None = None,
    store: Store | None = None,
    offline: bool = False,
) -> Weights:
    """Take the tensors and plain values out of a file of weights; no code of the package or of its library runs.

    Args:
        ref: a file of weights (safetensors, an index of shards, a torch checkpoint), or a package that has one.
        allow, allow_file: reviews, as `scan` takes them.
        store, offline: as `load`.
    Returns:
        tensors and values; in the place of objects of other classes there are records of what they would be made of.
    Raises:
        PermitRefused: the scan found danger, or could not decide.
        AmbiguousReference: the package has several; name one after `#`.
        Unsupported, MissingExtra, NotFound, Damaged, DigestMismatch.
    """
    from regraft.runtime.torch_weights import weights_from_files, weights_path
    from regraft.runtime.verified import VerifiedFiles

    package = open_package(ref, options=SourceOptions(offline=offline, store=store))
    try:
        path = weights_path(package)
        leave = None
        if needs_permit(package, path):
            leave = _permit(package, store=store, allow=allow, allow_file=allow_file)
        else:
            _refuse_danger(package, store)
        return weights_from_files(VerifiedFiles(package, leave), path)
    finally:
        if package is not ref:
            package.close()


def scanned_permit(package: Package, *, store: Store | None, trust_code: bool = False) -> Permit:
    """Leave to load what a scan of an open package, now, found to be data; the scan is kept in the store.

    With `trust_code`, leave to run its code where it is not only data.

    Raises:
        PermitRefused: the scan found danger, or could not decide.
    """
    return _permit(package, store=store, trust_code=trust_code)


def _permit(
    package: Package,
    *,
    trust_code: bool = False,
    store: Store | None,
    allow: Collection[str] = (),
    allow_file: str | os.PathLike[str] | None = None,
) -> Permit:
    """Scan, and derive leave: to load data, to take values out of it, or to run code where the user vouches for it."""
    evidence = scan(package, store=store, allow=allow, allow_file=allow_file)
    if store is not None:
        store.put_evidence(evidence)
    values_only = all(_is_known_name(finding) for finding in evidence.findings)
    record = Record(evidence.digest, evidence)
    needs_code = trust_code and evidence.verdict is not Verdict.PASS
    return permit_from_scan(record, evidence.subject[0].sha256, trust_code=needs_code, values_only=values_only)


def _refuse_danger(package: Package, store: Store | None) -> None:
    """A file that can only be data is not loaded from a package that scan fails; what scan leaves open is.

    Nothing is hashed for it, so that it costs no second reading of the weights.

    Raises:
        PermitRefused: the scan found danger, in this file or beside it.
    """
    evidence = scan(package, store=store, compute=False)
    if evidence.verdict is Verdict.FAIL:
        raise PermitRefused(
            f"the scan found danger: {evidence.summary}",
            where=str(package.ref),
            hint=f"regraft scan {package.ref} shows each finding; name one file after # to load that alone",
        )


def _is_known_name(finding: Finding) -> bool:
    """Leaves a finding nothing open but a name that the loading policy of a library has?"""
    if finding.severity.verdict is Verdict.PASS:
        return True
    name = finding.data.get("global")
    return finding.rule == UNLISTED.id and isinstance(name, str) and policy_for({name}) is not None


def _own_code(factory: str) -> str:
    """`module:factory`, with or without `py:`.

    Raises:
        UsageError: it is another kind of reference.
    """
    parsed = parse_reference(factory if factory.startswith("py:") else f"py:{factory}")
    if parsed.scheme != "py":
        raise UsageError("a factory is your own code: module:factory", where=factory)
    return parsed.location
