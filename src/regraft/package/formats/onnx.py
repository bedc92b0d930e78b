"""ONNX models: the graph, its operators and its stored tensors, stepping over the values of the weights.

Source: onnx/onnx.proto3 of ONNX 1.23 (`ModelProto`, `FunctionProto`); numbers are field numbers of its messages.
"""

from __future__ import annotations

import re

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role
from regraft.package.formats.onnx_graph import DEFAULT_DOMAIN, GraphFacts, looks_like_graph
from regraft.package.formats.wire import SPAN, VARINT, Message, entry_of, message_of, signed

_IR_VERSION, _GRAPH, _OPSET, _PROPERTY, _FUNCTION = 1, 7, 8, 14, 25
_TEXTS = {2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}
_KINDS = {
    1: VARINT,
    2: SPAN,
    3: SPAN,
    4: SPAN,
    5: VARINT,
    6: SPAN,
    7: SPAN,
    8: SPAN,
    14: SPAN,
    20: SPAN,
    25: SPAN,
    26: SPAN,
}
_MAX_IR_VERSION = 1000
_MAX_FACTS = 1000
_MAX_LISTED_CHARS = 4000
_GRAPH_BEGINS = re.compile(
    rb"\x3a[\x80-\xff]{1,5}[\x00-\x7f](?:\x0a[\x80-\xff]{0,3}[\x01-\x7f][\x0a\x12\x1a\x22]|\x12[\x01-\x7f][\x20-\x7e])"
)
_OUTSIDE = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:|\x00")


class Onnx:
    """Format `onnx`."""

    name = "onnx"
    title = "ONNX model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".onnx",)

    def matches(self, probe: Probe) -> bool:
        """A message with an IR version and something that reads as a graph; the file may be cut off in or after it."""
        head = probe.head
        if not head or head[0] >> 3 not in _KINDS or head[0] & 7 != _KINDS[head[0] >> 3]:
            return False
        return _is_model(message_of(probe))

    def describe(self, probe: Probe) -> Description:
        """Everything but the values of the tensors.

        Raises:
            Damaged: the file is cut off or not the messages that it must be.
            LimitExceeded: it is nested too deep or its metadata is too large.
        """
        facts = GraphFacts()
        opsets: dict[str, int] = {}
        metadata: dict[str, str] = {}
        properties: dict[str, str] = {}
        functions: dict[str, str] = {}
        ir_version = None
        for number, _, value in message_of(probe).fields():
            if number == _IR_VERSION and isinstance(value, int):
                ir_version = str(signed(value))
            elif number == 5 and isinstance(value, int):
                metadata["model_version"] = str(signed(value))
            elif not isinstance(value, Message):
                continue
            elif number in _TEXTS and value.size:
                metadata[_TEXTS[number]] = value.text()
            elif number == _GRAPH:
                facts.add_graph(value)
            elif number == _OPSET:
                _add_opset(value, opsets)
            elif number == _PROPERTY and len(properties) < _MAX_FACTS:
                key, content = entry_of(value)
                properties[key] = content.text() if content is not None else ""
            elif number == _FUNCTION:
                name, domain = _add_function(value, facts, opsets)
                functions[f"{domain}::{name}"] = domain
        metadata |= _counts(facts, functions)
        outside = [place for place in facts.externals if _OUTSIDE.search(place)]
        facts.problems += [
            Problem(f"external data at {p[:200]!r}, outside of the package", kind="path-escape") for p in outside[:20]
        ]
        return Description(
            version=ir_version,
            tensors=(*facts.initializers, *facts.constants),
            operators=dict(facts.operators),
            opsets=opsets,
            inputs=tuple(facts.inputs),
            outputs=tuple(facts.outputs),
            metadata=properties | metadata,
            problems=tuple(facts.problems),
        )


def _is_model(model: Message) -> bool:
    has_version = has_graph = False
    try:
        for number, kind, value in model.fields():
            if number in _KINDS and kind != _KINDS[number]:
                return False
            if number == _IR_VERSION and isinstance(value, int):
                has_version = 0 < value <= _MAX_IR_VERSION
                if not has_version:
                    return False
            elif number == _GRAPH and isinstance(value, Message):
                has_graph = looks_like_graph(value)
                if not has_graph:
                    return False
            elif number not in _KINDS and number < 100 and not has_graph:
                return False
    except Damaged:
        return has_version and (has_graph or _cut_off_graph(model))
    return has_version and has_graph


def _cut_off_graph(model: Message) -> bool:
    """Is the last thing of a damaged file a graph that would go on beyond its end, and begins like one?"""
    return _GRAPH_BEGINS.search(model.bytes(limit=1024), 2) is not None


def _add_opset(message: Message, opsets: dict[str, int]) -> None:
    domain, version = DEFAULT_DOMAIN, 0
    for number, _, value in message.fields():
        if number == 1 and isinstance(value, Message):
            domain = value.text(limit=200) or DEFAULT_DOMAIN
        elif number == 2 and isinstance(value, int):
            version = signed(value)
    opsets[domain] = version


def _add_function(message: Message, facts: GraphFacts, opsets: dict[str, int]) -> tuple[str, str]:
    """Add the body of a model-local function; its name and domain."""
    name, domain = "", ""
    for number, _, value in message.fields():
        if not isinstance(value, Message):
            continue
        if number == 1:
            name = value.text(limit=200)
        elif number == 10:
            domain = value.text(limit=200)
        elif number == 7:
            facts.add_node(value, depth=1)
        elif number == 9:
            own: dict[str, int] = {}
            _add_opset(value, own)
            for key, version in own.items():
                opsets.setdefault(key, version)
    return name, domain


def _counts(facts: GraphFacts, functions: dict[str, str]) -> dict[str, str]:
    found = {"graph_name": facts.name} if facts.name else {}
    found["initializers"] = str(len(facts.initializers))
    if facts.constants:
        found["constants"] = str(len(facts.constants))
    if facts.subgraphs:
        found["subgraphs"] = str(facts.subgraphs)
    if functions:
        found["functions"] = ", ".join(functions)[:_MAX_LISTED_CHARS]
        found["function_domains"] = ", ".join(dict.fromkeys(functions.values()))[:_MAX_LISTED_CHARS]
    if facts.externals:
        found["external_data"] = ", ".join(facts.externals)[:_MAX_LISTED_CHARS]
    return found
