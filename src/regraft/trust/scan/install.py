"""Rules about what installing the package, or starting an interpreter beside it, would run or fetch."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from regraft.errors import Damaged
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.commands import HIDES_OR_PIPES, HOSTILE, HOSTILE_COMMAND
from regraft.trust.scan.entrypoints import path_of
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.python.effects import Kind
from regraft.trust.scan.python.program import Program

STARTUP_CODE = Rule(
    "RGS-INS-001",
    Severity.CRITICAL,
    "A .pth file that acts on the machine at every start of Python",
    "The interpreter executes import lines of .pth files whenever it starts, whether or not the package is used.",
    "Do not install this package. Report it to where you got it from.",
    cwe=506,
)
STARTUP_LINE = Rule(
    "RGS-INS-002",
    Severity.UNKNOWN,
    "A .pth file that runs code at every start of Python",
    "The interpreter executes import lines of .pth files whenever it starts, whether or not the package is used.",
    "Read the line and the module that it imports.",
    cwe=829,
)
FOREIGN_SOURCE = Rule(
    "RGS-INS-003",
    Severity.UNKNOWN,
    "Requirements that come from outside of the package index",
    "Installing them runs code from an address or repository that nobody reviews, or from another index.",
    "Pin the requirement to a version on your own index.",
    cwe=494,
)
INSTALL_HOOK = Rule(
    "RGS-INS-004",
    Severity.HIGH,
    "Installing runs a shell command that fetches or hides something",
    "The package's install hook starts a shell with a download, a decoder or a network connection.",
    "Do not install this package. Report it to where you got it from.",
    cwe=506,
)
RECIPE = Rule(
    "RGS-INS-005",
    Severity.INFO,
    "Recipes that run commands when somebody starts them",
    "Shell scripts, Makefiles, Dockerfiles and notebooks run nothing by themselves; no loader reaches them.",
    "Read them before you start them.",
)
PIPED = Rule(
    "RGS-INS-008",
    Severity.UNKNOWN,
    "A script that runs what it downloads",
    "No loader starts it, but whoever does hands the machine to whatever the address serves at that moment.",
    "Fetch what it names yourself, look at it, then pass --allow RGS-INS-008:FILE.",
    cwe=494,
)

_TEXT_BYTES = 1 << 20
_MAX_FINDINGS = 40
_REQUIREMENTS = re.compile(
    r"(^|/)requirements[\w.-]*\.(txt|in)$|(^|/)(conda|environment)\.ya?ml$|(^|/)constraints[\w.-]*\.txt$"
)
_FOREIGN = re.compile(
    r"^\s*(?:-\s+)?(?:-i|--index-url|--extra-index-url|--find-links|-f|--trusted-host)[\s=]+(?P<index>\S+)"
    r"|^\s*(?:-\s+)?(?:-e\s+|--editable[\s=]+|(?:-[rc]|--requirement|--constraint)[\s=]+)?(?:[\w.\[\]-]+\s*@\s*)?(?P<url>(?:git|hg|svn|bzr)\+\S+|(?:https?|ftp|file)://\S+)",
    re.MULTILINE,
)
_WELL_KNOWN_INDEX = re.compile(
    r"https://(download\.pytorch\.org/whl|pypi\.org/simple|pypi\.nvidia\.com|files\.pythonhosted\.org)(/|$)"
)
_RECIPES = re.compile(r"(^|/)(Makefile|Dockerfile[\w.-]*|[\w.-]+\.(sh|bash|bat|cmd|ps1)|environment\.ya?ml)$")
_HOOKS = ("preinstall", "install", "postinstall", "prepare")
_HARMFUL_HOOK = re.compile(
    r"\b(curl|wget|nc|ncat|powershell|certutil|bitsadmin)\b|/dev/tcp/|base64\s+(-d|--decode)|\bnode\s+-e\b|\beval\b"
    r"|\|\s*(ba|z)?sh\b"
)
_SCRIPTS = frozenset({".sh", ".bash", ".bat", ".cmd", ".ps1"})
_STARTED = re.compile(r"\b(?:node|sh|bash)\s+(?:\./)?(?P<path>[\w./-]+\.(?:[cm]?js|sh))\b")
_STARTS_PROGRAMS = re.compile(r"child_process|\bexecSync\b|\bspawn(Sync)?\s*\(|\beval\s*\(|new\s+Function\s*\(")


class InstallFamily:
    """Judges files that an installer or the interpreter runs."""

    name = "install"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (STARTUP_CODE, STARTUP_LINE, FOREIGN_SOURCE, INSTALL_HOOK, RECIPE, PIPED)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one `.pth`, requirements, package.json or script file."""
        name = site.probe.name
        if site.probe.suffix == ".pth" and _is_text(site):
            yield from _startup_file(site)
        elif _REQUIREMENTS.search(name):
            yield from _requirements(site)
        elif site.probe.basename == "package.json":
            yield from _npm_hooks(site)
        elif site.probe.suffix in _SCRIPTS and site.probe.reader.size <= _TEXT_BYTES:
            yield from _script(site)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """What npm's hooks start, and one note about all recipes."""
        for site in sites:
            if site.probe.basename == "package.json":
                yield from _started_scripts(site, sites)
        recipes = [site for site in sites if _RECIPES.search(site.probe.name)]
        if recipes:
            names = [site.probe.name for site in recipes]
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield RECIPE.finding(f"{names[0]}{more}", recipes[0].where(), files=list(names[:20]))


def _script(site: Site) -> Iterator[Finding]:
    text = site.probe.text or ""
    match = HOSTILE.search(text) or HIDES_OR_PIPES.search(text)
    if match:
        rule = HOSTILE_COMMAND if HOSTILE.search(match[0]) else PIPED
        yield rule.finding(f"runs: {match[0][:160]}", site.where(line=text.count("\n", 0, match.start()) + 1))


def _is_text(site: Site) -> bool:
    """Might Python read this `.pth` as a path configuration file, and not torch as weights?"""
    return b"\x00" not in site.probe.head and not site.is_container


def _startup_file(site: Site) -> Iterator[Finding]:
    """Lines of a path configuration file that Python executes: those that begin with `import`.

    Where a file is no UTF-8, Python decodes it by the locale, as 8-bit text on many systems.
    """
    data = site.probe.reader.read_all(limit=MAX_TEXT_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith(("import ", "import\t")):
            continue
        program = Program({"line.py": line})
        try:
            runs = program.reach([("line.py", None)])
        except Damaged:
            runs = []
        harmful = [run for run in runs if run.effect.kind is not Kind.DYNAMIC]
        rule = STARTUP_CODE if harmful else STARTUP_LINE
        what = harmful[0].effect.text if harmful else line[:160]
        yield rule.finding(f"runs at every start of Python: {what}", site.where(line=number))


def _requirements(site: Site) -> Iterator[Finding]:
    text = site.probe.text or ""
    named = _FOREIGN.finditer(text[:_TEXT_BYTES])
    foreign = (match for match in named if not _WELL_KNOWN_INDEX.match(match["index"] or match["url"]))
    for match in islice(foreign, _MAX_FINDINGS):
        source = match["index"] or match["url"]
        line = text.count("\n", 0, match.start()) + 1
        yield FOREIGN_SOURCE.finding(f"a requirement from {source[:160]}", site.where(line=line), source=source)


def _started_scripts(site: Site, sites: Sequence[Site]) -> Iterator[Finding]:
    """Scripts of the package that a hook starts, if they start programs that fetch or hide something."""
    content = site.probe.json
    scripts = content.get("scripts") if isinstance(content, dict) else None
    by_path = {path_of(other): other for other in sites}
    for hook in _HOOKS:
        command = scripts.get(hook) if isinstance(scripts, dict) else None
        started = _STARTED.search(command) if isinstance(command, str) else None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path_of(site)), started["path"])) if started else ""
        text = by_path[path].probe.text if path in by_path else None
        harm = _HARMFUL_HOOK.search(text or "")
        if text and harm and (_STARTS_PROGRAMS.search(text) or path.endswith(".sh")):
            where = by_path[path].where(line=text.count("\n", 0, harm.start()) + 1)
            yield INSTALL_HOOK.finding(f"{hook} starts this script, which runs {harm[0][:80]}", where)


def _npm_hooks(site: Site) -> Iterator[Finding]:
    content = site.probe.json
    scripts = content.get("scripts") if isinstance(content, dict) else None
    for hook in _HOOKS:
        command = scripts.get(hook) if isinstance(scripts, dict) else None
        if isinstance(command, str) and _HARMFUL_HOOK.search(command):
            yield INSTALL_HOOK.finding(f"{hook} runs: {command[:160]}", site.where(field=f"scripts.{hook}"))
