"""ONNX operators with other attributes, of another kind, or on other operands."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_PLAIN = frozenset({"FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS"})


def settings_of(proto: onnx.NodeProto, opset: int) -> dict[str, Any]:
    """Attributes that are numbers, texts or lists of them; those that are left out with their defaults.

    Args:
        proto: the operator.
        opset: version of its domain, which says what the defaults are.
    """
    from onnx import AttributeProto, helper

    own = {
        one.name: _plain(helper.get_attribute_value(one))
        for one in proto.attribute
        if AttributeProto.AttributeType.Name(one.type) in _PLAIN
    }
    return {**_defaults(proto.op_type, proto.domain, opset), **own}


def changed_node(
    proto: onnx.NodeProto,
    *,
    operator: str | None = None,
    settings: Mapping[str, Any] | None = None,
    inputs: Sequence[str] | None = None,
    opset: int,
) -> onnx.NodeProto:
    """A copy of an operator with changes; of another kind it keeps the attributes that this kind has, too.

    An attribute whose default differs means something else there (the alpha of Elu and of Selu), and is not kept.
    """
    import onnx
    from onnx import helper

    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    if operator is not None:
        copy.op_type = operator
        known = _attributes(operator, proto.domain, opset)
        own, others = (_defaults(kind, proto.domain, opset) for kind in (proto.op_type, operator))
        kept = [one for one in proto.attribute if one.name in known and own.get(one.name) == others.get(one.name)]
        del copy.attribute[:]
        copy.attribute.extend(kept)
    for name, value in (settings or {}).items():
        kept = [one for one in copy.attribute if one.name != name]
        del copy.attribute[:]
        copy.attribute.extend([*kept, helper.make_attribute(name, value)])
    if inputs is not None:
        copy.input[:] = inputs[: len(proto.input)]
    return copy


@functools.cache
def _defaults(operator: str, domain: str, opset: int) -> dict[str, Any]:
    from onnx import helper

    return {
        name: _plain(helper.get_attribute_value(attribute.default_value))
        for name, attribute in _described(operator, domain, opset)
        if attribute.default_value.type
    }


@functools.cache
def _attributes(operator: str, domain: str, opset: int) -> frozenset[str]:
    return frozenset(name for name, _ in _described(operator, domain, opset))


def _described(operator: str, domain: str, opset: int) -> Iterator[tuple[str, Any]]:
    """Attributes of an operator as ONNX defines them; none for operators of others."""
    from onnx import defs

    if defs.has(operator, opset, domain):
        yield from defs.get_schema(operator, max_inclusive_version=opset, domain=domain).attributes.items()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [_plain(part) for part in value] if hasattr(value, "__len__") and not isinstance(value, str) else value
