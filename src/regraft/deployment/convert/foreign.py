"""A converter in another environment: a script over files, on a copy of its input, within limits, without a network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import Crashed, DigestMismatch, LimitExceeded, Unsupported, harmless
from regraft.record.digest import digest_bytes
from regraft.runtime import seccomp
from regraft.runtime.environments import environment_python

if TYPE_CHECKING:
    from regraft.deployment.convert.interface import Source

_SAID = 800
_POLL_S = 0.2
_SCRIPTS = Path(__file__).parent / "scripts"


class _Answer(msgspec.Struct, frozen=True):
    """What a script returns, or the error that it raised."""

    model: str = ""
    notes: tuple[str, ...] = ()
    versions: dict[str, str | int | float | None] = {}
    error: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """What a foreign converter may take.

    Attributes:
        seconds: wall time.
        memory_mb: MiB of resident memory, its children's included.
    """

    seconds: float = 1800.0
    memory_mb: int = 12_288


class Made(msgspec.Struct, frozen=True):
    """What a script made.

    Attributes:
        files: file name → bytes, of everything in its folder; the file that it named as the model comes first.
        notes: what it had to say.
        versions: library → version.
    """

    files: dict[str, bytes]
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = {}


def run_script(
    environment: str,
    script: str,
    source: Source,
    options: Mapping[str, str | int | float | bool | None] | None = None,
    *,
    limits: Limits | None = None,
) -> Made:
    """Convert in another environment.

    The script is a file of `deployment/convert/scripts/`. It defines `convert(model, out, options)`: `model` is the
    path of a copy of the source, `out` a folder to write to, and it returns `{"model": name in out, "notes": [...],
    "versions": {...}}`; or it raises, which is the refusal that the user reads.

    Args:
        environment: name, as in `runtime.environments`.
        script: file name without `.py`.
        source: what is converted; it must be a file.
        options: values that the script is given.
        limits: None for half an hour and 12 GiB.
    Raises:
        MissingEnvironment: it was not made yet.
        Unsupported: the script refused, asked for the network, or returned no such answer.
        Crashed: it died, hung, or took more memory than the limit.
        DigestMismatch: it changed its input, so that nobody knows what was converted.
        LimitExceeded: the source is too large to copy.
    """
    python = environment_python(environment, where=source.where)
    return run_by(python, _SCRIPTS / f"{script}.py", source, options, limits=limits)


def run_by(
    python: Path,
    path: Path,
    source: Source,
    options: Mapping[str, str | int | float | bool | None] | None = None,
    *,
    limits: Limits | None = None,
) -> Made:
    """As `run_script`, for any interpreter and any script.

    Args:
        python: interpreter.
        path: of the script.
        source, options, limits: as there.
    """
    script = path.stem
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="regraft-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        original, out = folder / "source", folder / "made"
        original.mkdir()
        out.mkdir()
        model = source.copy_to(original)
        before = _digests(original)
        request = {
            "script": str(path),
            "model": str(model),
            "out": str(out),
            "options": dict(options or {}),
            "seccomp": seccomp.__file__,
        }
        answer = _run(python, request, folder, limits, source.where, script)
        changed = sorted({path for path, _ in before.items() ^ _digests(original).items()})
        if changed:
            raise DigestMismatch(
                f"{script} changed its input {changed[0]} while converting",
                where=source.where,
                hint="your file is untouched, this was a copy; the result is thrown away",
            )
        return _collected(out, answer, source.where, script)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): digest_bytes(path.read_bytes()) for path in files}


def _run(python: Path, request: Mapping[str, object], folder: Path, limits: Limits, where: str, script: str) -> _Answer:
    """Start the script and wait for it; its answer lies in a file, because libraries print where they like."""
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(request))
    log = folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [str(python), "-I", str(_SCRIPTS / "run.py"), str(asked), str(answered)],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ended = _watched(process, limits)
    tail = harmless(" ".join(log.read_text(errors="replace").split())[-_SAID:])
    if ended:
        raise Crashed(f"{script} {ended}", where=where, hint="another way is tried, where there is one")
    if not answered.exists():
        by = f"signal {-process.returncode}" if process.returncode < 0 else f"status {process.returncode}"
        raise Crashed(f"{script} died ({by}): {tail}", where=where)
    try:
        answer = msgspec.json.decode(answered.read_bytes(), type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unsupported(f"{script} returned no answer as it should be: {harmless(str(error))}", where=where) from None
    if answer.error is not None:
        raise Unsupported(f"{script}: {harmless(answer.error[:_SAID])}", where=where)
    return answer


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the user's but the search path; libraries that would ask a hub are told not to."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        "LANG": "C.UTF-8",
    }


def _watched(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Wait; end it when it passes a limit, and what it started with it in any case.

    Returns:
        why it was ended, empty when it ended by itself.
    """
    deadline = time.monotonic() + limits.seconds
    why = ""
    done = threading.Event()
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                why = f"did not end within {limits.seconds:g} s"
            elif _resident_mb(process.pid) > limits.memory_mb:
                why = f"took more than {limits.memory_mb} MiB of memory"
            if why:
                break
            done.wait(_POLL_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return why


def _resident_mb(session: int) -> float:
    """MiB that a process group holds."""
    total = 0
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == session:
            total += int(fields[21]) * page
    return total / (1 << 20)


def _collected(out: Path, answer: _Answer, where: str, script: str) -> Made:
    paths = sorted(path for path in out.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(path.stat().st_size for path in paths)
    if size > Limits().memory_mb << 20:
        raise LimitExceeded(f"{script} wrote {size} bytes", where=where)
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}
    if answer.model not in files:
        raise Unsupported(f"{script} made no {harmless(answer.model) or 'model'}", where=where)
    first = {answer.model: files.pop(answer.model)}
    versions = {name: str(version) for name, version in answer.versions.items()}
    return Made({**first, **files}, answer.notes, versions)
