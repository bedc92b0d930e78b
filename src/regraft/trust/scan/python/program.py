"""A set of Python modules that a loader would import: who runs what, and when."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum

import msgspec

from regraft.errors import Damaged
from regraft.trust.scan.python.effects import Effect, effects_in
from regraft.trust.scan.python.names import Names, parse

_LOAD_METHODS = frozenset(
    "__init__ __new__ __post_init__ __setstate__ __getstate__ __reduce__ __reduce_ex__ __del__ __getattr__ "
    "__init_subclass__ __class_getitem__ __enter__ from_pretrained from_config _from_config _from_pretrained "
    "from_dict load load_model setup initialize post_init init_weights _init_weights _load_from_state_dict "
    "_split_generators _info _generate_examples _generate_tables _build_vocab register_for_auto_class "
    "build build_from_config save_pretrained".split()
)
_USE_METHODS = frozenset(
    "__call__ forward generate predict handle preprocess postprocess inference encode decode tokenize _tokenize "
    "call transform fit_transform __iter__ __next__ __getitem__ __len__ prepare_inputs_for_generation "
    "_sanitize_parameters _forward step convert_tokens_to_string _convert_token_to_id apply_chat_template "
    "get_features embed run".split()
)
_INSTALL_METHODS = frozenset({"run", "initialize_options", "finalize_options"})
"""Methods of a command class that an installer calls."""
_INSTALLER_WORDS = frozenset(
    "install develop build build_py build_ext egg_info dist_info bdist_wheel sdist editable_wheel bdist_egg".split()
)
_PROPERTIES = frozenset({"property", "cached_property", "lazy_property"})
_MAX_MODULES = 500


class Phase(IntEnum):
    """When code runs, earliest first."""

    IMPORT = 0
    LOAD = 1
    USE = 2
    LATER = 3


class Run(msgspec.Struct, frozen=True):
    """An effect with the place and the time at which it happens."""

    path: str
    function: str
    phase: Phase
    effect: Effect


class _Unit:
    """A module body, or a function: the nodes that run together, and whom they call."""

    def __init__(self, name: str, nodes: list[ast.AST]) -> None:
        self.name = name
        self.nodes = nodes


class Program:
    """Modules of one package, reached from entry points.

    Args:
        sources: path → source of every Python file that may be imported, bytes where its encoding is not known.
    """

    def __init__(self, sources: Mapping[str, str | bytes]) -> None:
        self._sources = sources
        self._modules: dict[str, Module] = {}
        self._spread: set[tuple[str, str, Phase]] = set()
        self._importer: dict[str, str] = {}
        self.problems: dict[str, Damaged] = {}
        """Files that were reached and could not be parsed."""

    def reach(self, entries: Sequence[tuple[str, str | None]], *, as_main: bool = False) -> list[Run]:
        """All effects of what importing these files and building their classes runs.

        Args:
            entries: (path, class name or None for every class of the file).
            as_main: the files are run as scripts, so that `if __name__ == "__main__"` counts.
        """
        phases: dict[tuple[str, str], Phase] = {}
        self._spread.clear()
        self._importer = {path: path for path, _ in entries}
        wanted: dict[str, set[str | None]] = {}
        for path, class_name in entries:
            wanted.setdefault(path, set()).add(class_name)
        for path in wanted:
            self._mark(path, "<module>", Phase.IMPORT, phases, as_main)
        at_load = _LOAD_METHODS | _INSTALL_METHODS if as_main else _LOAD_METHODS
        for phase, methods in ((Phase.LOAD, at_load), (Phase.USE, _USE_METHODS)):
            for path, names in wanted.items():
                self._mark_classes(path, names, methods, phase, phases, as_main)
        for path in {path for path, _ in phases}:
            for name in self._module(path, as_main).units:
                phases.setdefault((path, name), Phase.LATER)
        runs = [run for (path, name), phase in phases.items() for run in self._runs(path, name, phase)]
        return sorted(runs, key=lambda run: (run.phase, run.path, run.effect.line))

    def entry_of(self, path: str) -> str:
        """The entry of the last `reach` through which a file is imported, the first one where there are several."""
        while self._importer.get(path, path) != path:
            path = self._importer[path]
        return path

    @property
    def reached(self) -> list[str]:
        """Paths of the files that would be imported."""
        return sorted(self._modules)

    def _module(self, path: str, as_main: bool = False) -> Module:
        if path not in self._modules:
            try:
                if len(self._modules) >= _MAX_MODULES:
                    raise Damaged(f"more than {_MAX_MODULES} modules would be imported", where=path)
                self._modules[path] = Module(path, parse(self._sources[path], where=path), as_main)
            except Damaged as damage:
                self.problems[path] = damage
                self._modules[path] = Module(path, ast.Module([], []), as_main)
        return self._modules[path]

    def _runs(self, path: str, name: str, phase: Phase) -> Iterator[Run]:
        module = self._module(path)
        unit = module.units.get(name)
        try:
            for effect in effects_in(unit.nodes, module.names) if unit else ():
                yield Run(path, name, phase, effect)
        except Damaged as damage:
            self.problems[path] = damage

    def _mark(
        self, path: str, name: str, phase: Phase, phases: dict[tuple[str, str], Phase], as_main: bool = False
    ) -> None:
        """Mark a unit and everything that it calls as running in `phase`, unless it runs earlier already."""
        pending = [(path, name)]
        while pending:
            key = pending.pop()
            if phases.get(key, Phase.LATER) <= phase and key in phases:
                continue
            module = self._module(key[0], as_main)
            if key[1] not in module.units:
                continue
            phases[key] = phase
            pending += self._called(module, module.units[key[1]], phase)
            if key[1] == "<module>":
                for target in self._imports(module):
                    self._importer.setdefault(target, key[0])
                    pending.append((target, "<module>"))

    def _mark_classes(
        self,
        path: str,
        names: set[str | None],
        methods: frozenset[str],
        phase: Phase,
        phases: dict[tuple[str, str], Phase],
        as_main: bool,
    ) -> None:
        """Mark the methods that a loader calls: of the classes that are named here, or of all where none is."""
        module = self._module(path, as_main)
        here = {name for name in names if name in module.classes or name in module.units}
        whole = not here
        owners = {owner for name in here for owner in module.with_bases(name)}
        for unit in list(module.units):
            owner, _, method = unit.rpartition(".")
            is_called = method in methods and (whole or not owner or owner in owners)
            if is_called or (phase is Phase.LOAD and not owner and unit in here):
                self._mark(path, unit, phase, phases, as_main)
        elsewhere = {name for name in names - here if name is not None}
        for target in self._imports(module) if elsewhere else ():  # a class that is re-exported from a neighbour
            found: set[str | None] = {name for name in elsewhere if name in self._module(target).classes}
            if target != path and found:
                self._mark_classes(target, found, methods, phase, phases, as_main)

    def _imports(self, module: Module) -> list[str]:
        found = []
        for name in module.names.imported:
            found += [path for path in _candidates(module.path, name) if path in self._sources]
        return found

    def _called(self, module: Module, unit: _Unit, phase: Phase) -> list[tuple[str, str]]:
        """Units that a unit may call: by local name, by method name, or through an imported neighbour."""
        found: list[tuple[str, str]] = []
        for node in unit.nodes:
            if isinstance(node, ast.Call | ast.Name | ast.Attribute):
                target = node.func if isinstance(node, ast.Call) else node
                if isinstance(target, ast.Name):
                    found += module.units_named(target.id, instantiate=isinstance(node, ast.Call))
                elif isinstance(target, ast.Attribute) and (
                    isinstance(node, ast.Call) or target.attr in module.properties
                ):
                    spread = (module.path, target.attr, phase)
                    if spread not in self._spread:  # all methods of that name are on their way already
                        self._spread.add(spread)
                        found += [(module.path, unit_name) for unit_name in module.methods.get(target.attr, ())]
                if isinstance(node, ast.Call):
                    found += self._called_elsewhere(module, target)
        return found

    def _called_elsewhere(self, module: Module, target: ast.expr) -> Iterator[tuple[str, str]]:
        try:
            meanings = module.names.resolve(target)
        except Damaged as damage:
            self.problems[module.path] = damage
            return
        for dotted in meanings:
            owner, _, name = dotted.rpartition(".")
            if not name or owner in ("builtins", "<local>"):
                continue
            package = owner + "." if owner.endswith(".") or not owner else owner
            for path in _candidates(module.path, package):
                if path in self._sources and path != module.path:
                    yield from self._module(path).units_named(name, instantiate=True)


class Module:
    """The units of one source: its body, its functions and methods, and which classes it defines.

    Args:
        path: a name for it.
        tree: its syntax.
        as_main: it is run as a script.
    Attributes:
        names: what names mean in it.
        units: name (`function`, `Class.method`, `<module>`) → the nodes that run together.
        methods: name → the units of that name, of whatever class.
        properties: names of methods that reading an attribute calls.
        classes: name → names of its bases, as far as they are plain names.
    """

    def __init__(self, path: str, tree: ast.Module, as_main: bool) -> None:
        self.path = path
        self.names = Names(tree)
        self.units: dict[str, _Unit] = {}
        self.methods: dict[str, list[str]] = {}
        self.properties: set[str] = set()
        self.classes: dict[str, list[str]] = {}
        body: list[ast.AST] = []
        self._collect(tree.body, "", body, as_main)
        self.units["<module>"] = _Unit("<module>", body)

    def with_bases(self, class_name: str | None) -> set[str]:
        """A class and those of its bases that are defined here."""
        found: set[str] = set()
        pending = [class_name] if class_name else []
        while pending:
            name = pending.pop()
            if name in self.classes and name not in found:
                found.add(name)
                pending += self.classes[name]
        return found

    def units_named(self, name: str, *, instantiate: bool) -> list[tuple[str, str]]:
        """The function of that name, or what building an instance of the class of that name runs."""
        if name in self.units:
            return [(self.path, name)]
        if not instantiate or name not in self.classes:
            return []
        runs_at_birth = ("__init__", "__new__", "__post_init__", "__call__", "__enter__", "__prepare__")
        owners = self.with_bases(name)
        return [(self.path, f"{o}.{m}") for o in owners for m in runs_at_birth if f"{o}.{m}" in self.units]

    def _collect(self, body: Sequence[ast.AST], owner: str, nodes: list[ast.AST], as_main: bool) -> None:
        """Sort nodes into those that run with their surroundings and those that wait inside functions."""
        pending = list(body)
        while pending:
            node = pending.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                pending += [*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)]
                nodes += [ast.copy_location(ast.Call(maker, [], []), maker) for maker in node.decorator_list]
                self._add_function(node, owner, as_main)
            elif isinstance(node, ast.ClassDef):
                self._add_class(node, pending, nodes, as_main)
            elif isinstance(node, ast.Lambda):
                pending += [*node.args.defaults, node.body]
            elif isinstance(node, ast.If) and (_is_publishing(node.test) if as_main else _is_guard(node.test)):
                pending += node.orelse
            else:
                nodes.append(node)
                pending += ast.iter_child_nodes(node)

    def _add_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str, as_main: bool) -> None:
        name = f"{owner}.{node.name}" if owner else node.name
        inner: list[ast.AST] = []
        self._collect(node.body, "", inner, as_main)
        previous = self.units.get(name)
        self.units[name] = _Unit(name, inner if previous is None else previous.nodes + inner)
        if owner:
            self.methods.setdefault(node.name, []).append(name)
            if any(isinstance(maker, ast.Name) and maker.id in _PROPERTIES for maker in node.decorator_list):
                self.properties.add(node.name)

    def _add_class(self, node: ast.ClassDef, pending: list[ast.AST], nodes: list[ast.AST], as_main: bool) -> None:
        pending += [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        self.classes[node.name] = bases
        self._collect(node.body, node.name, nodes, as_main)
        makers = [*(k.value for k in node.keywords if k.arg == "metaclass"), *node.decorator_list]
        nodes += [ast.copy_location(ast.Call(maker, [], []), maker) for maker in makers]
        hooks = [ast.Attribute(base, "__init_subclass__", ast.Load()) for base in node.bases]  # deriving calls them
        nodes += [ast.copy_location(ast.Call(ast.copy_location(hook, node), [], []), node) for hook in hooks]


def _is_guard(test: ast.expr) -> bool:
    """`__name__ == "__main__"` and `TYPE_CHECKING`: branches that an import does not take."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        sides = [test.left, *test.comparators]
        named = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
        return named and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _is_publishing(test: ast.expr) -> bool:
    """`sys.argv[-1] == "publish"`: a branch that an installer, whose words are others, does not take."""
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq | ast.In):
        return False
    words = {c.value for c in ast.walk(test) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    asks = any(isinstance(node, ast.Attribute) and node.attr == "argv" for node in ast.walk(test))
    return asks and bool(words) and not words & _INSTALLER_WORDS


def _candidates(importer: str, dotted: str) -> list[str]:
    """Files that an import of `dotted` in `importer` may mean, the module itself or its parent for a name in it."""
    level = len(dotted) - len(dotted.lstrip("."))
    folder = importer.split("/")[:-1]
    if level:
        folder = folder[: len(folder) - (level - 1)] if level > 1 else folder
    parts = [part for part in dotted.split(".") if part]
    found = []
    for start in [folder] if level else [folder[:depth] for depth in range(len(folder), -1, -1)]:
        for count in (len(parts), len(parts) - 1):
            if count >= 0:
                path = "/".join([*start, *parts[:count]])
                found += ([f"{path}.py"] if count else []) + [f"{path}/__init__.py" if path else "__init__.py"]
    return list(dict.fromkeys(found))
