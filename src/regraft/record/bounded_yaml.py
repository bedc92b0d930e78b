"""YAML from strangers: bounded, without aliases, tags or duplicate keys; values keep their line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import yaml

    from regraft.record.evidence import JSON

Place: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of a document to a value."""

MAX_YAML_BYTES = 1 << 20
_MAX_DEPTH = 50
_MAX_EVENTS = 200_000
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,3})?")
_CORE = {"null": None, "~": None, "": None, "true": True, "false": False}


class YamlError(ValueError):
    """The text is not YAML, or more than is allowed. `line` counts from 1, None when it is not known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_yaml(text: str) -> tuple[JSON, dict[Place, int]]:
    """Parse one YAML document into JSON values, and the line of each.

    Plain scalars follow the core schema of YAML 1.2: `no`, `on` and `2026-01-01` are texts, only `true`,
    `false`, `null`, decimal integers and finite decimal numbers are not.

    Returns:
        the value (None for an empty document), and place → line, counted from 1.
    Raises:
        YamlError: no YAML; an alias, anchor, tag, duplicate or non-text key; too large, deep or many.
    """
    if len(text) > MAX_YAML_BYTES:
        raise YamlError(f"more than {MAX_YAML_BYTES >> 10} KiB of YAML")
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(text, loader)
        node = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise YamlError(problem, mark.line + 1 if mark else None) from error
    except ValueError as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(str(error)) from error
    lines: dict[Place, int] = {}
    return (None if node is None else _value(node, (), lines)), lines


def _check_events(text: str, loader: Any) -> None:
    import yaml

    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=loader)):
        line = event.start_mark.line + 1 if event.start_mark else None
        if count > _MAX_EVENTS:
            raise YamlError(f"more than {_MAX_EVENTS} values", line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlError("aliases and anchors are not allowed", line)
        if tag := getattr(event, "tag", None):
            raise YamlError(f"the tag {tag[:40]!r} is not allowed", line)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise YamlError(f"nested more than {_MAX_DEPTH} levels deep", line)


def _value(node: yaml.Node, place: Place, lines: dict[Place, int]) -> JSON:
    import yaml

    line = node.start_mark.line + 1
    lines[place] = line
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.value, node.style, line)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, index), lines) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    result: dict[str, JSON] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlError("a key is a list or a mapping", line)
        key: Hashable = key_node.value
        assert isinstance(key, str)
        if key in result:
            raise YamlError(f"the key {key[:80]!r} stands twice", line)
        result[key] = _value(value_node, (*place, key), lines)
        lines[(*place, key)] = line
    return result


def _scalar(text: str, style: str | None, line: int) -> JSON:
    if style:  # quoted or block
        return text
    if text.lower() in _CORE and text in {text.lower(), text.capitalize(), text.upper()}:
        return _CORE[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        with contextlib.suppress(OverflowError):
            return _finite(float(text), line)
    return text


def _finite(value: float, line: int) -> float:
    if value in {float("inf"), float("-inf")}:
        raise YamlError("a number that is too large", line)
    return value
