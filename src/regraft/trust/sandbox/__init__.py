"""The sandbox: a process in which code of a package may run, with nothing but libraries, the package and a scratch."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import weakref
from collections.abc import Mapping
from pathlib import Path

import msgspec

from regraft.errors import PermitRefused
from regraft.trust.sandbox.confinement import Confinement, missing
from regraft.trust.sandbox.folders import made_folder, remove_folder, remove_stale

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from regraft.trust.sandbox import confine_and_serve; "
    "confine_and_serve(sys.argv[2])"
)
_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
    "/etc/localtime", "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo",
    "/sys/devices/system/cpu", "/sys/devices/system/node",
)  # fmt: skip
"""What shared libraries are loaded from, and what they ask about the machine."""
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")
_BASE_MEMORY_BYTES = 6 << 30
"""What torch and transformers take before there is a model."""
_COPIES = 6
"""Of the weights, in memory at once: the file, the state dict, the network, activations and what a cast makes."""


class Sandbox:
    """Two folders, and how a worker of `runtime.isolated` is started that sees nothing of the user's but them.

    Attributes:
        package: what is put there can be read, and not written.
        scratch: the worker's home; it may write there.
    """

    def __init__(self, *, memory_bytes: int | None = None, cpu_s: int = 3600) -> None:
        """Make the folders.

        Args:
            memory_bytes: of private memory; None for what a model of the package's size needs.
            cpu_s: processor time of each worker.
        Raises:
            PermitRefused: this machine cannot confine a process.
        """
        if lacks := missing():
            raise PermitRefused(
                f"code of a package runs in the sandbox only, and this machine has none: {'; '.join(lacks)}",
                hint="use a Linux machine with Landlock and seccomp; regraft doctor says what this one has",
            )
        remove_stale()
        folder, lock = made_folder()
        self._remove = weakref.finalize(self, remove_folder, folder, lock)
        self.package, self.folder = folder / "package", folder / "scratch"
        self.package.mkdir()
        self.folder.mkdir()
        self._memory_bytes = memory_bytes
        self._cpu_s = cpu_s

    @property
    def memory_bytes(self) -> int:
        """The most that a worker can hold, and so the most that it can have to tell."""
        if self._memory_bytes is not None:
            return self._memory_bytes
        size = sum(path.stat().st_size for path in self.package.rglob("*") if path.is_file())
        return _BASE_MEMORY_BYTES + _COPIES * size

    def command(self) -> list[str]:
        """What starts a worker."""
        paths = _import_paths()
        readable = (*_SYSTEM, *_interpreter(), *paths, str(self.package))
        confinement = Confinement(
            tuple(dict.fromkeys(readable)),
            (str(self.folder),),
            cpu_s=self._cpu_s,
            memory_bytes=self.memory_bytes,
            parent=os.getpid(),
        )
        spec = msgspec.json.encode(confinement).decode()
        return [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(paths), spec]

    def environment(self) -> Mapping[str, str]:
        """All that a worker finds in its environment; nothing of the user's."""
        home = str(self.folder)
        return {
            "HOME": home, "TMPDIR": home, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "LC_ALL": "C.UTF-8", "PATH": "",
        }  # fmt: skip

    def close(self) -> None:
        """Remove the folders."""
        self._remove()


def confine_and_serve(spec: str) -> None:
    """In the new process: confine it, then answer requests as `runtime.isolated_worker` does."""
    from regraft.runtime.isolated_worker import main
    from regraft.trust.sandbox.confinement import enter

    enter(msgspec.json.decode(spec, type=Confinement))
    main()


def _interpreter() -> tuple[str, ...]:
    """Folders of the interpreter and its standard library; of an interpreter of the system not all of /usr."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_path(name) for name in names} | {str(Path(sys.executable).resolve())}
    for prefix in (sys.prefix, sys.base_prefix):
        if prefix not in ("/", "/usr", "/usr/local"):
            found |= {f"{prefix}/lib", f"{prefix}/lib64", f"{prefix}/pyvenv.cfg"}
    return tuple(sorted(path for path in found if path))


def _import_paths() -> list[str]:
    """Of `sys.path` what is libraries; a folder of the user's own is none, but that of an editable Regraft is."""
    own = str(Path(__file__).resolve().parents[3])
    roots = [str(Path(path).resolve()) for path in _interpreter()]
    kept = []
    for entry in filter(None, sys.path):
        place = Path(entry).resolve()
        is_library = place.name in _LIBRARY_FOLDERS or any(place.is_relative_to(root) for root in roots)
        if str(place) == own or (is_library and place.exists()):
            kept.append(entry)
    return [*kept, own] if own not in kept else kept


__all__ = ["Sandbox", "confine_and_serve", "missing"]
