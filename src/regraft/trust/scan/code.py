"""Rules about code that a loader of the package would run: Python sources, compiled modules, libraries."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from itertools import islice

from regraft.package.formats import COMPILED_MODELS, Role
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity, Where
from regraft.trust.scan.commands import HIDES_OR_PIPES, HOSTILE_COMMAND
from regraft.trust.scan.entrypoints import EntryPoint, entry_points, is_script, path_of
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.notebook import is_hostile
from regraft.trust.scan.python.effects import Kind
from regraft.trust.scan.python.names import MAX_SOURCE_BYTES
from regraft.trust.scan.python.program import Phase, Program, Run
from regraft.trust.scan.serving import served_code

AT_IMPORT = Rule(
    "RGS-COD-001",
    Severity.CRITICAL,
    "Code that a loader imports acts on the machine at once",
    "Loading the model imports this file, and its top level runs a program, evaluates hidden text, "
    "uses the network or changes files before any network is built.",
    "Do not load this package. Report it to where you got it from.",
    cwe=506,
)
AT_LOAD = Rule(
    "RGS-COD-002",
    Severity.CRITICAL,
    "Building the model acts on the machine",
    "The loader calls this constructor or hook, and it runs a program, evaluates hidden text or uses the network.",
    "Do not load this package. Report it to where you got it from.",
    cwe=506,
)
IN_USE = Rule(
    "RGS-COD-003",
    Severity.HIGH,
    "Using the model runs a shell or hidden code",
    "A forward pass computes; this one starts a shell or runs code that it decodes first.",
    "Do not load this package. Report it to where you got it from.",
    cwe=506,
)
WOULD_RUN = Rule(
    "RGS-COD-004",
    Severity.UNKNOWN,
    "Code that a loader would run",
    "The package brings Python that its loader imports. Nothing harmful was recognised in it, "
    "which is no proof that nothing harmful is in it.",
    "Read the files that are listed, then pass --allow RGS-COD-004:FILE.",
    cwe=829,
)
UNREADABLE = Rule(
    "RGS-COD-005",
    Severity.UNKNOWN,
    "Code that a loader would run cannot be analysed",
    "The file does not parse, is compiled, or is too large, so that what it does cannot be told.",
    "Ask for the source, or open it in a sandbox of your own.",
    cwe=829,
)
HIDDEN = Rule(
    "RGS-COD-006",
    Severity.UNKNOWN,
    "A script beside the model would do harm if it were run",
    "No loader that we know reaches this file of the model repository, but its top level runs a shell "
    "or code that it decodes first.",
    "Do not run or import it. Report it to where you got it from.",
    cwe=506,
)
NOTED = Rule(
    "RGS-COD-007",
    Severity.INFO,
    "Code that no loader reaches",
    "Loading the weights does not run these files. Importing or installing the library does.",
    "Nothing, unless you install the package: then you trust its authors with your machine.",
)

_FAILS_AT: dict[Phase, frozenset[Kind]] = {
    Phase.IMPORT: frozenset(Kind) - {Kind.DYNAMIC, Kind.HOOK, Kind.WRITE, Kind.UNPICKLE},
    Phase.LOAD: frozenset(
        {Kind.SHELL, Kind.PROCESS, Kind.EVALUATE, Kind.DECODE, Kind.NETWORK, Kind.DELETE, Kind.WRITE_OUTSIDE}
        | {Kind.NATIVE, Kind.SECRETS}
    ),
    Phase.USE: frozenset({Kind.SHELL, Kind.DECODE, Kind.WRITE_OUTSIDE}),
    Phase.LATER: frozenset(),
}
_FAILS_INSTALLED = frozenset({Kind.SHELL, Kind.DECODE, Kind.NETWORK, Kind.SECRETS, Kind.WRITE_OUTSIDE})
"""What `setup.py` must not do; starting git or a compiler, and evaluating a version file, are its daily work."""
_RULES_BY_PHASE = {Phase.IMPORT: AT_IMPORT, Phase.LOAD: AT_LOAD, Phase.USE: IN_USE}
_COMPILED = (".pyc", ".pyo", ".so", ".pyd", ".dll", ".dylib")
_COMPILED_HOLDERS = frozenset({"torch-export", "aotinductor", "torchscript", "torch-zip", "pt2"})
_LISTED = 20


class CodeFamily:
    """Analyses what entry points reach; notes the rest."""

    name = "code"
    judges: frozenset[str] = frozenset(
        {"python-source", "source-code", "notebook", "native-code", "python-bytecode", *COMPILED_MODELS}
    )
    rules: Sequence[Rule] = (AT_IMPORT, AT_LOAD, IN_USE, WOULD_RUN, UNREADABLE, HIDDEN, NOTED)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Nothing: whether code runs depends on the files around it."""
        return iter(())

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Findings about every file of code in the package."""
        by_path = {path_of(site): site for site in sites}
        code = {path: site for path, site in by_path.items() if _is_code(path, site)}
        if not code:
            return
        points = [*entry_points(sites), *served_code(sites)]
        program = Program(_Sources(by_path))
        yield from _judge_entries(program, points, by_path)
        compiled = {**_lone_libraries(by_path), **_compiled_beside(program, by_path)}
        yield from compiled.values()
        yield from _compiled_models(by_path)
        reached = set(program.reached)
        judged = reached | compiled.keys()
        unreached = {
            path: site for path, site in code.items() if path not in judged and not _is_compiled_model(path, site)
        }
        if not _is_library(by_path):
            yield from _harmful_strays(unreached)
        if unreached:
            yield _note(unreached, len(by_path))


class _Sources(dict[str, str | bytes]):
    """Python sources by path, read when they are reached."""

    def __init__(self, by_path: dict[str, Site]) -> None:
        super().__init__()
        self._sites = {path: site for path, site in by_path.items() if is_script(path)}

    def __contains__(self, path: object) -> bool:
        return path in self._sites

    def __missing__(self, path: str) -> bytes:
        self[path] = source = self._sites[path].probe.reader.read_all(limit=MAX_SOURCE_BYTES)
        return source


def _judge_entries(program: Program, points: Sequence[EntryPoint], by_path: dict[str, Site]) -> Iterator[Finding]:
    by_entry: dict[str, list[EntryPoint]] = {}
    for point in points:
        by_entry.setdefault(point.path, []).append(point)
    for as_main in (False, True):
        entries = [(point.path, point.class_name) for point in points if point.as_main is as_main]
        runs: dict[str, list[Run]] = {path: [] for path, _ in entries}
        for run in program.reach(entries, as_main=as_main):
            runs[program.entry_of(run.path)].append(run)
        listed: set[str] = set()
        for path, of_entry in runs.items():
            yield from _judge_entry(by_entry[path], of_entry, by_path, listed)
    for path, damage in program.problems.items():
        where = by_path[path].where()
        yield UNREADABLE.finding(f"{posixpath.basename(path)} cannot be analysed: {damage.what}", where)


def _judge_entry(
    points: Sequence[EntryPoint], runs: Sequence[Run], by_path: dict[str, Site], listed: set[str]
) -> Iterator[Finding]:
    """Harm that an entry point does; where there is none, that its code would run (an archive's once)."""
    first = points[0]
    harmful = {(run.path, run.effect.line, run.effect.name): run for run in reversed(runs) if _is_fatal(first, run)}
    for run in harmful.values():
        yield _harm(run, first, by_path)
    if harmful or first.as_main or (first.archive is not None and first.archive in listed):
        return
    if first.archive is not None:
        listed.add(first.archive)
    yield _would_run(points, runs, by_path)


def _is_fatal(point: EntryPoint, run: Run) -> bool:
    if not point.as_main:
        return run.effect.kind in _FAILS_AT[run.phase]
    if run.phase > Phase.LOAD or run.effect.kind not in _FAILS_INSTALLED:
        return False
    is_build_step = run.phase is Phase.LOAD and run.effect.kind is Kind.SHELL
    return not is_build_step or HIDES_OR_PIPES.search(run.effect.text) is not None


def _harm(run: Run, point: EntryPoint, by_path: dict[str, Site]) -> Finding:
    effect = run.effect
    moment = {Phase.IMPORT: "when it is imported", Phase.LOAD: f"in {run.function}", Phase.USE: f"in {run.function}"}
    return _RULES_BY_PHASE[run.phase].finding(
        f"{effect.kind.value} {moment[run.phase]}: {effect.text}",
        by_path[run.path].where(line=effect.line),
        call=effect.name,
        effect=effect.kind.name.lower(),
        function=run.function,
        named_by=point.named_by,
    )


def _would_run(points: Sequence[EntryPoint], runs: Sequence[Run], by_path: dict[str, Site]) -> Finding:
    first = points[0]
    worth_reading = [f"{run.path}:{run.effect.line} {run.effect.kind.value}: {run.effect.text}" for run in runs]
    if first.archive is not None:
        files = [path for path in by_path if path.startswith(first.archive + "!/") and path.endswith(".py")]
        message = f"unpickling it imports Python that it carries: {len(files)} files"
        return WOULD_RUN.finding(message, by_path[first.archive].where(), files=[*files[:_LISTED]])
    classes = sorted({point.class_name for point in points if point.class_name})
    built = f" and builds {', '.join(classes[:_LISTED])}" if classes else ""
    return WOULD_RUN.finding(
        f"{first.named_by}: a loader imports {posixpath.basename(first.path)}{built}",
        by_path[first.path].where(),
        named_by=[*islice(dict.fromkeys(point.named_by for point in points), _LISTED)],
        effects=[*worth_reading[:_LISTED]],
    )


def _compiled_beside(program: Program, by_path: dict[str, Site]) -> dict[str, Finding]:
    """Compiled modules in the folder of a reached source: an import finds them too."""
    folders = {posixpath.dirname(path) for path in program.reached}
    return {
        path: UNREADABLE.finding(f"{posixpath.basename(path)} is compiled and lies where it is imported", site.where())
        for path, site in by_path.items()
        if path.endswith(_COMPILED) and posixpath.dirname(path).removesuffix("/__pycache__") in folders
    }


def _compiled_models(by_path: dict[str, Site]) -> Iterator[Finding]:
    """Libraries in an exported program, as AOTInductor makes them, and those of IREE and TVM: loading one opens it."""
    for path, site in by_path.items():
        if _is_compiled_model(path, site):
            yield UNREADABLE.finding(
                f"{posixpath.basename(path)} is a compiled model that its loader runs", site.where()
            )


def _lone_libraries(by_path: dict[str, Site]) -> dict[str, Finding]:
    """Native code where nothing else is a model, nor a library for Python: whoever loads something here, opens it."""
    formats = [site.format for site in by_path.values() if site.format is not None]
    if _is_library(by_path) or any(one.role in (Role.WEIGHTS, Role.GRAPH) for one in formats):
        return {}
    return {
        path: UNREADABLE.finding(
            f"{posixpath.basename(path)} is native code, and nothing else is a model", site.where()
        )
        for path, site in by_path.items()
        if site.format is not None and site.format.name == "native-code"
    }


def _harmful_strays(unreached: dict[str, Site]) -> Iterator[Finding]:
    for path, site in unreached.items():
        if not is_script(path):
            continue
        if site.probe.reader.size > MAX_SOURCE_BYTES:
            yield UNREADABLE.finding(f"{site.probe.reader.size} bytes of source are too many to look at", site.where())
            continue
        program = Program({path: site.probe.reader.read_all()})
        harm = [
            run.effect
            for run in program.reach([(path, None)])
            if run.phase is Phase.IMPORT and run.effect.kind in (Kind.SHELL, Kind.DECODE)
        ]
        worst = next((effect for effect in harm if is_hostile(effect)), harm[0] if harm else None)
        if worst is not None:
            rule = HOSTILE_COMMAND if is_hostile(worst) else HIDDEN
            message = f"{worst.kind.value} when it is run: {worst.text}"
            yield rule.finding(message, site.where(line=worst.line), call=worst.name)


def _note(unreached: dict[str, Site], files: int) -> Finding:
    names = sorted(unreached)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return NOTED.finding(
        f"{len(names)} of {files} files are code that loading the weights does not run: {shown}",
        Where(file=unreached[names[0]].file),
        files=list(names[:_LISTED]),
        count=len(names),
    )


def _is_compiled_model(path: str, site: Site) -> bool:
    is_whole = site.format is not None and site.format.name in COMPILED_MODELS
    return is_whole or (site.inside in _COMPILED_HOLDERS and path.endswith(_COMPILED))


def _is_code(path: str, site: Site) -> bool:
    if site.inside == "torchscript" or (site.inside == "torch-package" and "/.data/" in path):
        return False  # TorchScript only looks like Python: its interpreter knows tensors, not modules
    return is_script(path) or path.endswith(_COMPILED) or (site.format is not None and site.format.role is Role.CODE)


def _is_library(by_path: dict[str, Site]) -> bool:
    """Is this a package of an installer, whose code is there to be imported by its users?"""
    return any(
        path.endswith((".dist-info/METADATA", ".dist-info/WHEEL", "PKG-INFO", "/package.json", "setup.py"))
        or path in ("package.json", "DESCRIPTION")
        for path in by_path
    )
