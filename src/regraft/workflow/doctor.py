"""Doctor: what works in this environment, and why not."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import RegraftError
from regraft.progress import progress
from regraft.record.digest import digest_bytes
from regraft.record.environment import capture_environment
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject, Verdict, Where
from regraft.record.store import STORE_VERSION, Store, open_store
from regraft.workflow.environment_checks import (
    RUNTIMES,
    Check,
    check_bytecode,
    check_extras,
    check_gpu,
    check_plugins,
    check_runtime,
    check_tool,
    check_torchvision,
)
from regraft.workflow.foreign_checks import check_converters, check_environments, check_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

_IMPORTS_AT_ONCE = 2
_NETWORK_TIMEOUT_S = 5.0
_REGISTRIES = (("pypi", "https://pypi.org/simple/"), ("npm", "https://registry.npmjs.org/"))


def doctor(
    *,
    store: Store | None = None,
    reindex: bool = False,
    import_runtimes: bool = True,
    network: bool = False,
    environment: str | None = None,
    timeout_s: float = 60.0,
) -> Evidence:
    """Look at Python, the store, extras, runtimes, converters, plug-ins, tools and hardware.

    Nothing is changed but the index, and the environment that is asked for.

    Args:
        store: default: the one that verbs would use.
        reindex: rebuild the index of the store from its evidence.
        import_runtimes: try the import of every installed runtime, each in a process of its own, so that a
            crash or a hang is reported and survived. Otherwise only their metadata is read.
        network: ask the package registries for an answer.
        environment: make this environment of its own first (`runtime/environments`), where it was not made yet.
        timeout_s: how long one import may take.
    Returns:
        evidence of kind `doctor`; outcome `healthy`, `impaired` (something optional is broken) or `broken`.
    Raises:
        UsageError: there is no environment of that name.
        NetworkFailure, AccessDenied: it could not be made.
    """
    if environment is not None:
        from regraft.runtime.environments import make_environment

        make_environment(environment)
    draft = Draft("doctor", parameters={"reindex": reindex, "import_runtimes": import_runtimes, "network": network})
    if environment is not None:
        draft.parameters["environment"] = environment
    found = capture_environment()
    draft.subject.append(Subject("this environment", digest_bytes(msgspec.json.encode(found))))
    checks = [*_python(), *_store(store or open_store(), reindex=reindex), *check_extras()]
    checks += _runtimes(import_runtimes=import_runtimes, timeout_s=timeout_s)
    checks += [*check_environments(), *check_converters(), *check_forms()]
    checks += [*check_plugins(timeout_s=timeout_s), check_tool("git", "git+https:// references need it"), check_gpu()]
    checks += _network() if network else []
    for check in checks:
        data = {"area": check.area, "name": check.name, "state": check.state}
        draft.find(Finding(check.rule, check.severity, check.message, Where(field=check.name), {**data}, check.fix))
    broken = [check for check in checks if check.state == "broken"]
    verdict = draft.verdict
    outcome = "broken" if verdict is not Verdict.PASS else "impaired" if broken else "healthy"
    return draft.finish(outcome=outcome, summary=_summary(checks, broken))


def _python() -> Iterator[Check]:
    said = f"{platform.python_implementation()} {platform.python_version()}"
    yield Check("RGD-ENV-001", "python", "python", "works", f"{said}, {sys.executable}")
    environment = capture_environment()
    processor = f"{environment.cpu}, {environment.isa}, {environment.threads} threads"
    yield Check("RGD-ENV-002", "hardware", "cpu", "works", f"{platform.system()} {platform.machine()}, {processor}")
    bytecode = check_bytecode()
    if bytecode is not None:
        yield bytecode
    yield _sandbox()


def _sandbox() -> Check:
    """What the kernel offers to confine code of packages with (`--trust-code`)."""
    from regraft.trust.sandbox import landlock, missing

    if lacks := missing():
        fix = "nothing where you trust no package's code; else a Linux machine that has both"
        message = f"code of packages is refused: this machine lacks {'; '.join(lacks)}"
        return Check("RGD-BOX-001", "security", "sandbox", "missing", message, fix=fix)
    message = f"Landlock version {landlock.abi()} and seccomp filters: --trust-code runs code of packages in a sandbox"
    return Check("RGD-BOX-002", "security", "sandbox", "works", message)


def _store(store: Store, *, reindex: bool) -> Iterator[Check]:
    where = str(store.root)
    try:
        count = sum(1 for _ in store.evidence_digests())
    except RegraftError as error:
        yield Check(
            "RGD-STO-001", "store", "store", "broken", f"{error.what}: {where}", Severity.HIGH, error.hint or None
        )
        return
    try:
        store.put_blob([b"regraft doctor\n"])
    except RegraftError as error:
        message = f"cannot be written: {error.what}: {where}"
        yield Check("RGD-STO-002", "store", "store", "broken", message, Severity.HIGH, error.hint or None)
    else:
        message = f"{where}: layout version {STORE_VERSION}, {count:,} pieces of evidence, writable"
        yield Check("RGD-STO-003", "store", "store", "works", message)
    yield _index(store, reindex=reindex)


def _index(store: Store, *, reindex: bool) -> Check:
    from regraft.record.index import Index

    index = Index(store)
    try:
        count = index.rebuild() if reindex else len(index.find(limit=1))
        damaged = index.damage()
    except RegraftError as error:
        fix = error.hint or "regraft doctor --reindex"
        return Check("RGD-IDX-001", "store", "index", "broken", error.what, Severity.MEDIUM, fix)
    finally:
        index.close()
    if damaged:
        message = f"{len(damaged)} evidence files cannot be used: {damaged[0]}"
        return Check("RGD-IDX-002", "store", "index", "broken", message, Severity.MEDIUM, "restore them from a backup")
    done = f"rebuilt, {count:,} pieces of evidence" if reindex else "answers"
    return Check("RGD-IDX-003", "store", "index", "works", done)


def _runtimes(*, import_runtimes: bool, timeout_s: float) -> Sequence[Check]:
    from regraft.workflow.environment_checks import installed_version

    checks: list[Check] = []
    if import_runtimes:
        with (
            progress("importing runtimes", total=len(RUNTIMES), unit="runtimes") as advance,
            ThreadPoolExecutor(_IMPORTS_AT_ONCE) as pool,
        ):
            for check in pool.map(lambda runtime: check_runtime(*runtime, timeout_s=timeout_s), RUNTIMES):
                checks.append(check)
                advance(1)
    else:
        for name, _, install in RUNTIMES:
            version = installed_version(name)
            state, said = ("missing", "not installed") if version is None else ("note", f"{version}, import not tried")
            checks.append(Check("RGD-RUN-001", "runtime", name, state, said, fix=install if version is None else None))
    trap = check_torchvision()
    return [*checks, trap] if trap is not None else checks


def _network() -> Iterator[Check]:
    import urllib3

    timeout = urllib3.Timeout(connect=_NETWORK_TIMEOUT_S, read=_NETWORK_TIMEOUT_S)
    pool = urllib3.PoolManager(timeout=timeout, retries=False)
    for name, address in _REGISTRIES:
        try:
            status = pool.request("HEAD", address).status
            yield Check("RGD-NET-001", "network", name, "works", f"{address} answers ({status})")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            message = f"{address} cannot be reached: {type(error).__name__}"
            fix = "check the proxy settings; --offline works with what was fetched"
            yield Check("RGD-NET-002", "network", name, "broken", message, Severity.MEDIUM, fix)


def _summary(checks: Sequence[Check], broken: Sequence[Check]) -> str:
    missing = sum(check.state == "missing" for check in checks)
    if broken:
        return f"{len(broken)} of {len(checks)} checks found something broken: {', '.join(c.name for c in broken[:5])}"
    return f"everything that is installed works; {missing} optional things are missing"
