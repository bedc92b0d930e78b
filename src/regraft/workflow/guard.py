"""Guard: what other programs load is scanned before it is opened.

The functions by which libraries load models are wrapped as soon as the libraries are imported; nothing else changes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from regraft.errors import PermitRefused, UsageError
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan
from regraft.trust.scan.allow_file import read_allow_file

VARIABLE = "REGRAFT_GUARD"
"""Environment variable by which `regraft guard` hands its options to the program that it starts."""
_CONFIRMED = "REGRAFT_GUARD_CONFIRMED"
"""Environment variable that names a file, which a program makes when it has started its guard."""

_ARGUMENT = {
    "pickle": {"load": "file"},
    "dill": {"load": "file"},
    "cloudpickle": {"load": "file"},
    "joblib": {"load": "filename"},
    "joblib.numpy_pickle": {"load": "filename"},
    "numpy": {"load": "file"},
    "pandas": {"read_pickle": "filepath_or_buffer"},
    "torch": {"load": "f"},
    "torch.serialization": {"load": "f"},
    "torch.jit": {"load": "f"},
    "keras.models": {"load_model": "filepath"},
    "keras.saving": {"load_model": "filepath"},
    "keras.src.saving.saving_api": {"load_model": "filepath"},
    "onnxruntime": {"InferenceSession.__init__": "path_or_bytes"},
    "transformers.dynamic_module_utils": {"get_class_in_module": "module_path"},
    "transformers.modeling_utils": {"PreTrainedModel.from_pretrained": "pretrained_model_name_or_path"},
    "transformers.tokenization_utils_base": {
        "PreTrainedTokenizerBase.from_pretrained": "pretrained_model_name_or_path"
    },
    "transformers.models.auto.auto_factory": {"_BaseAutoModelClass.from_pretrained": "pretrained_model_name_or_path"},
    "transformers.models.auto.configuration_auto": {"AutoConfig.from_pretrained": "pretrained_model_name_or_path"},
    "transformers.models.auto.tokenization_auto": {"AutoTokenizer.from_pretrained": "pretrained_model_name_or_path"},
}
"""Module → function → the argument that names what it opens."""
_RESULT = {"huggingface_hub": ("hf_hub_download", "snapshot_download")}
"""Module → functions whose result is a path to what they have just downloaded."""
_PLACE = {"InferenceSession.__init__": 1, "get_class_in_module": 1}
"""Where the argument stands when it is not named; 0, or 1 behind a class, for all others."""


_NOT_STARTED = 2
"""Exit status of a Python that could not start the guard, and said so."""


class Refuse(StrEnum):
    """What a guard stops."""

    DANGEROUS = "dangerous"
    """What scan fails on."""
    INCONCLUSIVE = "inconclusive"
    """Also what scan cannot decide."""


class Guard:
    """Wraps the loading functions of libraries, those that are imported and those that will be.

    Args:
        refuse: what is not let through.
        allow, allow_file: reviews, as `scan` takes them.
    Raises:
        NotFound, UsageError: the allow file is none.
    """

    def __init__(
        self,
        *,
        refuse: Refuse = Refuse.INCONCLUSIVE,
        allow: Collection[str] = (),
        allow_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.refuse = refuse
        self._allow = tuple(allow)
        self._allow_file = allow_file
        if allow_file is not None:
            read_allow_file(Path(allow_file))  # a flaw in it is told now, not when the first file is opened
        self._judged: dict[tuple[object, ...], str | None] = {}
        self._undo: list[Callable[[], None]] = []
        self._finder = _Finder(self)
        self._busy = threading.local()

    def start(self) -> Guard:
        """Wrap what is imported already, and watch the imports to come; nothing where that is so."""
        if self._finder in sys.meta_path:
            return self
        sys.meta_path.insert(0, self._finder)
        for name in (*_ARGUMENT, *_RESULT):
            if name in sys.modules:
                self.wrap(sys.modules[name])
        return self

    def stop(self) -> None:
        """Put everything back."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Guard:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wrap(self, module: ModuleType) -> None:
        """Wrap the loading functions of one module."""
        for path, argument in _ARGUMENT.get(module.__name__, {}).items():
            self._replace(module, path, functools.partial(_before, self, argument, _PLACE.get(path)))
        for path in _RESULT.get(module.__name__, ()):
            self._replace(module, path, functools.partial(_after, self))

    def judge(self, subject: object) -> None:
        """Scan what is about to be opened, once for the same bytes in the same place.

        Raises:
            PermitRefused: scan found danger, or could not decide; the message says what.
        """
        if getattr(self._busy, "is_scanning", False):
            return  # what scan itself opens
        self._busy.is_scanning = True
        try:
            reason, where = self._reason(subject)
        finally:
            self._busy.is_scanning = False
        if reason is not None:
            raise PermitRefused(
                f"not loaded: {reason}",
                where=where,
                hint=f"regraft scan {where} says more; --allow-file takes a review",
            )

    def _reason(self, subject: object) -> tuple[str | None, str]:
        """Why something is refused, None where it is not; and its name."""
        if isinstance(subject, str | os.PathLike):
            path = Path(subject)
            if not path.exists():
                return None, str(path)  # a name on a hub, or an error that the library tells better
            return self._of_path(path), str(path)
        name = getattr(subject, "name", None)
        if isinstance(name, str) and _begins(subject, name):
            return self._of_path(Path(name)), name
        return self._of_stream(subject), "a stream"

    def _of_path(self, path: Path) -> str | None:
        status = path.stat()
        key = (os.path.realpath(path), status.st_ino, status.st_size, status.st_mtime_ns)
        if path.is_dir() or key not in self._judged:
            self._judged[key] = self._scanned(path)
        return self._judged[key]

    def _of_stream(self, stream: object) -> str | None:
        """What a loader would read from here on, judged in a file of its own."""
        seek, tell, read = (getattr(stream, name, None) for name in ("seek", "tell", "read"))
        seekable = getattr(stream, "seekable", None)
        is_pipe = callable(seekable) and not seekable()
        if is_pipe or not (callable(seek) and callable(tell) and callable(read)):
            return None if isinstance(stream, bytes | bytearray) or self.refuse is Refuse.DANGEROUS else "a pipe"
        position = tell()
        with tempfile.NamedTemporaryFile(suffix=".stream") as copy:
            copy.write(read())
            copy.flush()
            seek(position)
            return self._scanned(Path(copy.name))

    def _scanned(self, path: Path) -> str | None:
        evidence = scan(path, allow=self._allow, allow_file=self._allow_file, compute=self._allow_file is not None)
        refused = (Verdict.FAIL,) if self.refuse is Refuse.DANGEROUS else (Verdict.FAIL, Verdict.INCONCLUSIVE)
        return evidence.summary if evidence.verdict in refused else None

    def _replace(self, module: ModuleType, path: str, wrapping: Callable[..., Any]) -> None:
        owner: Any = module
        *owners, name = path.split(".")
        for part in owners:
            owner = getattr(owner, part, None)
        original = vars(owner).get(name) if owner is not None else None
        if original is None:
            return  # a version of the library that does not have it
        function = original.__func__ if isinstance(original, classmethod) else original
        wrapper: Any = _method(functools.partial(wrapping, function), function)
        setattr(owner, name, classmethod(wrapper) if isinstance(original, classmethod) else wrapper)
        self._undo.append(functools.partial(setattr, owner, name, original))


def guard(
    *,
    refuse: str = Refuse.INCONCLUSIVE,
    allow: Collection[str] = (),
    allow_file: str | os.PathLike[str] | None = None,
) -> Guard:
    """Scan what this process loads from now on, before it is opened: a context manager, or `stop()` it.

    Watched are `torch.load`, `pickle.load`, `joblib.load`, `numpy.load`, `pandas.read_pickle`, `keras` models, ONNX
    Runtime sessions, `from_pretrained` and downloads from the hub. What unpickles bytes in memory is not.

    Args:
        refuse: `inconclusive`: what scan cannot decide is refused too; `dangerous`: only what it fails on.
        allow, allow_file: reviews, as `scan` takes them.
    Raises:
        ValueError: another word for `refuse`.
        NotFound, UsageError: the allow file is none.
    """
    return Guard(refuse=Refuse(refuse), allow=allow, allow_file=allow_file).start()


def _begins(stream: Any, name: str) -> bool:
    """Does a stream stand at the beginning of the file of that name?

    Members of archives have names of their own, a relative name may mean another file by now, and what was read
    already is not what will be loaded.
    """
    try:
        opened, named = os.fstat(stream.fileno()), Path(name).stat()
        return os.path.samestat(opened, named) and stat.S_ISREG(named.st_mode) and stream.tell() == 0
    except (OSError, AttributeError, ValueError, TypeError):
        return False


def run_guarded(command: Sequence[str], options: dict[str, Any]) -> int:
    """Run a program that guards itself from its start; its exit status.

    Args:
        options: of `guard`.
    Raises:
        UsageError: an option of Python's keeps the guard from starting, or no Python that the program is confirmed
            that it is guarded.
        FileNotFoundError: there is no such program.
    """
    option = _unguardable(command)
    if option is not None:
        raise UsageError(f"with {option} Python does not start the guard", where=command[0], hint=f"leave {option} out")
    with tempfile.TemporaryDirectory() as folder:
        confirmed = Path(folder, "confirmed")
        environment = {**guarded_environment(options), _CONFIRMED: str(confirmed)}
        status = subprocess.run(command, env=environment, check=False).returncode
        if not confirmed.exists() and status != _NOT_STARTED:
            raise UsageError(
                f"it ended with {status} and was not guarded: no Python in it started the guard",
                where=command[0],
                hint="guard the Python program itself; PYTHONPATH must reach it",
            )
    return status


def _unguardable(command: Sequence[str]) -> str | None:
    """The option of a Python interpreter that has it ignore PYTHONPATH or leave out `site`."""
    if not Path(command[0]).name.startswith(("python", "pypy")):
        return None
    takes_value = False
    for word in command[1:]:
        if takes_value:
            takes_value = False
        elif word.startswith("--"):
            takes_value = word == "--check-hash-based-pycs"
        elif not word.startswith("-") or word == "-":
            return None
        else:
            for at, letter in enumerate(word[1:], 2):
                if letter in "IES":
                    return f"-{letter}"
                if letter in "cm":
                    return None
                if letter in "WX":
                    takes_value = at == len(word)
                    break
    return None


def guarded_environment(options: dict[str, Any]) -> dict[str, str]:
    """The environment for a program that guards itself from its start."""
    folder = str(Path(__file__).parent.parent / "guarding")
    paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, VARIABLE: json.dumps(options), "PYTHONPATH": os.pathsep.join(paths)}


def guard_from_environment() -> None:
    """Guard this process as `regraft guard` said; nothing where it said nothing."""
    said = os.environ.get(VARIABLE)
    if said:
        guard(**json.loads(said))
        confirmed = os.environ.get(_CONFIRMED)
        if confirmed:
            with contextlib.suppress(OSError):  # a process that outlives the program finds the folder gone
                Path(confirmed).touch()


def _before(
    owner: Guard, argument: str, place: int | None, function: Callable[..., Any], *args: Any, **named: Any
) -> Any:
    """Judge the argument, then call."""
    at = place if place is not None else int(argument == "pretrained_model_name_or_path")
    subject = named.get(argument, args[at] if len(args) > at else None)
    if subject is not None:
        owner.judge(subject)
    return function(*args, **named)


def _after(owner: Guard, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call, then judge the path that came back."""
    path = function(*args, **named)
    owner.judge(path)
    return path


def _method(watched: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function, which a class binds as it would bind the original."""

    @functools.wraps(function)
    def method(*args: Any, **named: Any) -> Any:
        return watched(*args, **named)

    return method


class _Finder(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module, and wraps its functions once it has run."""

    def __init__(self, owner: Guard) -> None:
        self._owner = owner

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a watched module, with a loader that wraps it; None for all others."""
        if fullname not in _ARGUMENT and fullname not in _RESULT:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Finder) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self._watch(spec.loader)
                return spec
        return None

    def _watch(self, loader: Any) -> None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            self._owner.wrap(module)

        with contextlib.suppress(AttributeError):  # a loader in C, which modules of libraries do not have
            loader.exec_module = exec_module
