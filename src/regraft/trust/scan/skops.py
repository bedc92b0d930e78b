"""Rules about skops files: the types and functions that their schema makes the loader import."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from regraft.errors import RegraftError
from regraft.package.limits import MAX_NESTING, MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.repository import is_dangerous

DANGEROUS_TYPE = Rule(
    "RGS-SKO-001",
    Severity.CRITICAL,
    "A skops schema that names something dangerous",
    "Loading imports this name and calls it with arguments of the file.",
    "Do not load this file. Report it to where you got it from.",
    cwe=502,
)
CALLING_NODE = Rule(
    "RGS-SKO-002",
    Severity.HIGH,
    "A skops node that calls or looks up what the file says",
    "Function, method and operator nodes outside of the numerical libraries let a file call what it names, "
    "past the list of trusted types.",
    "Do not load this file. Report it to where you got it from.",
    cwe=502,
)
UNKNOWN_TYPE = Rule(
    "RGS-SKO-003",
    Severity.UNKNOWN,
    "A type that is not known to be harmless",
    "Loading imports and builds it; the library that it belongs to is not one that was verified.",
    "Look at what the type does when it is built, then pass --allow NAME.",
    cwe=502,
)

_TRUSTED = frozenset({"numpy", "scipy", "sklearn", "pandas", "collections", "datetime", "re"})
_BUILTINS = frozenset(
    "dict list tuple set frozenset str int float bool complex bytes bytearray slice type NoneType range object "
    "ellipsis OrderedDict defaultdict".split()
)
_CALLING = frozenset({"FunctionNode", "MethodNode", "OperatorFuncNode", "PartialNode"})
_REACHING = frozenset({"methodcaller", "attrgetter", "itemgetter", "call", "load", "loadtxt", "fromfile", "memmap"})
_MAX_OBJECTS = 1_000_000


class SkopsFamily:
    """Reads `schema.json` of skops archives; nothing is imported."""

    name = "skops"
    judges: frozenset[str] = frozenset({"skops"})
    rules: Sequence[Rule] = (DANGEROUS_TYPE, CALLING_NODE, UNKNOWN_TYPE)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one skops file."""
        archive = site.archive
        if archive is None or archive.kind != "zip" or "schema.json" not in archive.by_name:
            return
        try:
            schema = json.loads(archive.read("schema.json", limit=MAX_TEXT_BYTES))
        except (RegraftError, ValueError, RecursionError) as error:
            yield UNKNOWN_TYPE.finding(f"schema.json cannot be read: {error}", site.where())
            return
        reported: set[str] = set()
        for node in _nodes(schema):
            rule, named = _judge(node)
            if rule is not None and named not in reported:
                reported.add(named)
                loader = str(node.get("__loader__"))
                yield rule.finding(f"{loader} makes loading import {named}", site.where(), name=named, loader=loader)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: files are judged one by one."""
        return iter(())


def _judge(node: dict[str, Any]) -> tuple[Rule | None, str]:
    module, name, loader = (str(node.get(key, "")) for key in ("__module__", "__class__", "__loader__"))
    head = module.split(".")[0]
    if loader == "FunctionNode" and isinstance(node.get("content"), dict):  # the function is named in the content
        content = node["content"]
        module = str(content.get("module_path", module))
        name = str(content.get("function", name))
        head = module.split(".")[0]
    named = f"{module}.{name}" if module else name
    if loader == "MethodNode" and (method := _method(node)) is not None and method.startswith("_"):
        return DANGEROUS_TYPE, f"{named}.{method}"
    if head in ("builtins", "") and name in _BUILTINS:
        return None, named
    if is_dangerous(named) and named != "builtins.function":
        return DANGEROUS_TYPE, named
    if name in _REACHING and (loader in _CALLING or head == "operator"):
        return CALLING_NODE, named
    if loader in _CALLING and head not in _TRUSTED | {"operator", "functools", "builtins", "types"}:
        return CALLING_NODE, named
    if head in _TRUSTED or (loader in _CALLING and head in ("operator", "functools", "builtins", "types")):
        return None, named
    return UNKNOWN_TYPE, named


def _method(node: dict[str, Any]) -> str | None:
    """The attribute that a method node looks up on its object."""
    content = node.get("content")
    function = content.get("func") if isinstance(content, dict) else None
    return function if isinstance(function, str) else None


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    pending: list[tuple[Any, int]] = [(schema, 0)]
    for _ in range(_MAX_OBJECTS):
        if not pending:
            return
        item, depth = pending.pop()
        if depth > MAX_NESTING:
            continue
        if isinstance(item, dict):
            if "__class__" in item:
                yield item
            pending += [(value, depth + 1) for value in item.values()]
        elif isinstance(item, list):
            pending += [(value, depth + 1) for value in item]
