"""Regenerate src/regraft/trust/scan/library_effects.json: what functions of libraries do when a pickle calls them.

Run in the development environment: `python tools/make_library_effects.py`. The sources are read, by the analysis that
scan uses for a package's own code, and never imported; those of libraries that are not installed are read out of their
wheels. A function has the effect of a call in its body, and that of the functions that it calls, in whatever module, a
few calls deep.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import json
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from regraft.errors import RegraftError
from regraft.package.package import open_package
from regraft.trust.scan.pickle_dangers import danger_of
from regraft.trust.scan.python.effects import Kind, effects_in
from regraft.trust.scan.python.names import parse
from regraft.trust.scan.python.program import Module

TARGET = Path(__file__).parent.parent / "src/regraft/trust/scan/library_effects.json"
INSTALLED = (
    "numpy scipy sklearn joblib torch keras huggingface_hub sympy fsspec jinja2 yaml PIL onnx onnxruntime tqdm "
    "requests cloudpickle safetensors h5py transformers networkx regex setuptools"
).split()
"""Packages of this environment, by import name."""
WHEELS = {
    "pandas": "3.1.1",
    "dill": "0.4.1",
    "gensim": "4.4.0",
    "nltk": "3.10.4",
    "omegaconf": "2.4.0",
    "hydra-core": "1.3.8",
    "pytorch-lightning": "2.6.6",
    "datasets": "5.2.0",
    "mlflow-skinny": "3.17.2",
    "xgboost": "3.4.1",
    "lightgbm": "4.7.0",
    "skops": "0.16.0",
    "statsmodels": "0.15.0",
    "catboost": "1.2.10",
    "spacy": "3.8.18",
    "imbalanced-learn": "0.14.2",
}
"""Packages whose sources are read out of their wheels, by name on the index."""
DISTRIBUTION = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow"}
SKIPPED = ("/tests/", "/test/", "/testing/", "/_vendor/", "/transformers/models/", "/idle_test/", "/site-packages/")

KINDS = {
    Kind.SHELL: "runs a program",
    Kind.PROCESS: "runs a program",
    Kind.EVALUATE: "runs Python code",
    Kind.EVALUATE_NAME: "runs Python code",
    Kind.DECODE: "runs Python code",
    Kind.NATIVE: "calls native code",
    Kind.NETWORK: "opens a network connection",
    Kind.UNPICKLE: "unpickles other bytes",
    Kind.DELETE: "reads, writes or deletes files",
    Kind.WRITE: "reads, writes or deletes files",
    Kind.WRITE_OUTSIDE: "reads, writes or deletes files",
}
"""Effects that spread to callers, worst first, in the words of `pickle_dangers`."""
HARMLESS = frozenset(
    "collections.namedtuple typing.NamedTuple dataclasses.dataclass dataclasses.make_dataclass enum.Enum "
    "functools.wraps functools.lru_cache warnings.warn logging.getLogger re.compile copy.deepcopy copy.copy "
    "importlib.import_module platform.system platform.machine platform.python_implementation tempfile.gettempdir "
    "subprocess.list2cmdline os.environ.get inspect.signature".split()
)
"""What starts, evaluates or writes inside of Python for reasons of its own, not with the caller's arguments."""
MAX_CALLS = 3
"""Calls between a function and the effect that it is said to have: further away its arguments rarely arrive."""
_MAKERS = ("__init__", "__new__", "__post_init__")


class Function(NamedTuple):
    """A function, method or class: its module and its name within it."""

    module: str
    name: str


class Library:
    """Calls between the functions of many modules, and the effects of each."""

    def __init__(self) -> None:
        self.callers: dict[Function, set[Function]] = collections.defaultdict(set)
        self.effects: dict[Function, Kind] = {}
        self.known: set[Function] = set()
        self._pending: list[tuple[Function, str]] = []
        self._stars: list[tuple[str, str]] = []
        self._modules: dict[str, list[str]] = {}

    def add(self, module: str, is_package: bool, source: str | bytes) -> None:
        """Learn one module."""
        try:
            unit = Module(module, parse(source, where=module), as_main=False)
        except RegraftError:
            return
        self._modules[module] = [*unit.units, *unit.classes, *(name for name, _ in unit.names.aliases())]
        for name, body in unit.units.items():
            if name != "<module>":
                self._learn(unit, Function(module, name), body.nodes)
        for name in unit.classes:
            self._learn_class(unit, Function(module, name))
        home = module if is_package else module.rpartition(".")[0]
        for alias, meaning in unit.names.aliases():
            if alias == "*":
                self._stars.append((module, _absolute(meaning, home)))
            else:
                self._pending.append((Function(module, alias), _absolute(meaning, home)))

    def _learn(self, unit: Module, function: Function, nodes: list[ast.AST]) -> None:
        self.known.add(function)
        order = list(KINDS)
        try:
            kinds = {effect.kind for effect in effects_in(nodes, unit.names) if effect.kind in KINDS}
            if kinds:
                self.effects[function] = min(kinds, key=order.index)
            for node in nodes:
                if isinstance(node, ast.Call):
                    self._call(unit, function, node.func)
        except RegraftError:
            return

    def _learn_class(self, unit: Module, made: Function) -> None:
        self.known.add(made)
        for owner in unit.with_bases(made.name):
            for method in _MAKERS:
                if f"{owner}.{method}" in unit.units:
                    self.callers[Function(made.module, f"{owner}.{method}")].add(made)

    def _call(self, unit: Module, caller: Function, target: ast.expr) -> None:
        if isinstance(target, ast.Name) and (target.id in unit.units or target.id in unit.classes):
            self.callers[Function(caller.module, target.id)].add(caller)
            return
        owner = caller.name.rpartition(".")[0]
        if (
            isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.value.id in ("self", "cls")
        ):
            for base in unit.with_bases(owner):
                self.callers[Function(caller.module, f"{base}.{target.attr}")].add(caller)
            return
        for dotted in unit.names.resolve(target):
            self._pending.append((caller, _absolute(dotted, caller.module.rpartition(".")[0])))

    def spread(self) -> dict[Function, Kind]:
        """Every function with an effect, its own or that of what it calls."""
        for _ in range(3):  # stars of stars
            for module, origin in self._stars:
                for name in self._modules.get(origin, ()):
                    if "." not in name and not name.startswith(("_", "*", "<")) and name not in self._modules[module]:
                        self._modules[module].append(name)
                        self.callers[Function(origin, name)].add(Function(module, name))
        for caller, dotted in self._pending:
            if dotted not in HARMLESS and (called := self._function(dotted)) is not None:
                self.callers[called].add(caller)
        found = dict(self.effects)
        for kind in KINDS:
            pending = collections.deque((function, 0) for function, own in found.items() if own is kind)
            while pending:
                function, calls = pending.popleft()
                if f"{function.module}.{function.name}" in HARMLESS:
                    continue
                for caller in self.callers.get(function, ()):
                    away = calls + (caller in self.known)  # another name for it is no call
                    if caller not in found and away <= MAX_CALLS:
                        found[caller] = kind
                        pending.append((caller, away))
        return found

    def _function(self, dotted: str) -> Function | None:
        parts = dotted.split(".")
        for cut in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:cut])
            if module in self._modules:
                return Function(module, ".".join(parts[cut:]))
        return None


def _absolute(dotted: str, package: str) -> str:
    level = len(dotted) - len(dotted.lstrip("."))
    if not level:
        return dotted
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], dotted[level:]])


def installed(root: Path, package: str | None) -> Iterator[tuple[str, bytes]]:
    """(path below `root`, source) of every file of a package, or of the standard library."""
    for path in sorted((root / (package or "")).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not any(part in f"/{name}" for part in SKIPPED):
            yield name, path.read_bytes()


def in_wheel(name: str, release: str) -> Iterator[tuple[str, bytes]]:
    """The same of a package on the index, read out of its wheel."""
    with contextlib.closing(open_package(f"pypi://{name}=={release}")) as package:
        for entry in package.entries:
            if entry.path.endswith(".py") and not any(part in f"/{entry.path}" for part in SKIPPED):
                yield entry.path, package.open(entry.path).read_all()


def main() -> None:
    library, seen_in = Library(), {"python": sys.version.split()[0]}
    places = sysconfig.get_paths()
    for package in (None, *INSTALLED):
        root = Path(places["stdlib"] if package is None else places["purelib"])
        for path, source in installed(root, package):
            library.add(*_module(path), source)
        if package is not None:
            seen_in[package] = version(DISTRIBUTION.get(package, package))
    for name, release in WHEELS.items():
        seen_in[name] = release
        for path, source in in_wheel(name, release):
            library.add(*_module(path), source)
    found: dict[str, dict[str, list[str]]] = {}
    for function, kind in sorted(library.spread().items()):
        if danger_of(function.module, function.name) is None and not function.name.startswith("test_"):
            found.setdefault(KINDS[kind], {}).setdefault(function.module, []).append(function.name)
    effects = {
        effect: {module: " ".join(names) for module, names in modules.items()} for effect, modules in found.items()
    }
    TARGET.write_text(json.dumps({"seen_in": seen_in, "effects": effects}, indent=0, ensure_ascii=False) + "\n")
    counts = {effect: sum(map(len, modules.values())) for effect, modules in found.items()}
    print(f"{len(library.known)} functions, {counts}, {TARGET.stat().st_size} bytes")


def _module(path: str) -> tuple[str, bool]:
    dotted = path.removesuffix(".py").replace("/", ".")
    return dotted.removesuffix(".__init__"), dotted.endswith(".__init__")


if __name__ == "__main__":
    main()
