"""A row of the table of operators: what an ONNX operator takes, as a signature, and the function that computes it.

A signature reads as ONNX's own documentation does:

    Slice(data, #starts, #ends, #axes?, #steps?)
    Conv(X, W, B?; auto_pad="NOTSET", dilations?, group=1, kernel_shape?, pads?, strides?)

Inputs come before the semicolon, attributes after it. `?` may be left out, `*` takes all that are left. `#` needs
numbers: the value is known while the graph is walked, though sizes in it may be symbols. ONNX moved many of these from
attributes to inputs over the years; `#axes` is taken from the input, else from the attribute of that name, so that one
row serves every version. From a row come the binding of a node's arguments, the complaint about what it lacks, and the
tests that compare it with ONNX's own cases and signature.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from regraft.errors import Unsupported

_ROW = re.compile(r"(?:(?P<domain>[\w.]+)::)?(?P<name>\w+)\((?P<inputs>[^;]*)(?:;(?P<attributes>.*))?\)")
_PART = re.compile(r"""(?:\[[^\]]*\]|'[^']*'|"[^"]*"|[^,])+""")
_REQUIRED = object()
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Parameter(msgspec.Struct, frozen=True):
    """One input of a signature."""

    name: str
    is_optional: bool = False
    is_number: bool = False
    is_variadic: bool = False


class Row(msgspec.Struct, frozen=True):
    """One operator, for a range of operator sets.

    Attributes:
        domain: empty for ONNX's own.
        inputs, attributes: of its signature; an attribute maps to its default.
        compute: inputs by position, attributes by name; the first parameter may be `call`.
        numbers: the same on numpy arrays, for values that are known while the graph is walked; None where
            sizes never pass through it.
        since, until: operator sets for which it holds.
        takes_call: `compute` wants the `Call`.
    """

    name: str
    domain: str
    inputs: tuple[Parameter, ...]
    attributes: Mapping[str, Any]
    compute: Callable[..., Any]
    numbers: Callable[..., Any] | None = None
    since: int = 1
    until: int | None = None
    takes_call: bool = False

    def holds(self, opset: int) -> bool:
        """Is it the row for this version?"""
        return self.since <= opset and (self.until is None or opset <= self.until)


def row(
    signature: str,
    compute: Callable[..., Any],
    *,
    numbers: Callable[..., Any] | None = None,
    since: int = 1,
    until: int | None = None,
) -> Row:
    """A row from its signature."""
    found = _ROW.fullmatch(signature)
    if found is None:
        raise ValueError(signature)
    return Row(
        found["name"],
        found["domain"] or "",
        tuple(_parameter(text) for text in _split(found["inputs"])),
        dict(_attribute(text) for text in _split(found["attributes"] or "")),
        compute,
        numbers,
        since,
        until,
        _takes_call(compute),
    )


class Family:
    """Collects the rows of a module."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def maps(
        self,
        signature: str,
        *,
        numbers: Callable[..., Any] | None = None,
        since: int = 1,
        until: int | None = None,
    ) -> Callable[[_Function], _Function]:
        """Decorator: the function computes the operator of this signature."""

        def collect(compute: _Function) -> _Function:
            self.rows.append(row(signature, compute, numbers=numbers, since=since, until=until))
            return compute

        return collect

    def add(self, table: Mapping[str, Callable[..., Any]], *, since: int = 1) -> None:
        """Rows whose function torch or this module has already: signature → function."""
        self.rows += [row(signature, compute, since=since) for signature, compute in table.items()]


def attributes_of(row: Row, given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that a function is called with: those given over the defaults.

    Raises:
        Unsupported: one is missing, or is none of the signature's: to leave it out would compute something else.
    """
    numbers = {parameter.name for parameter in row.inputs if parameter.is_number}
    unknown = sorted(name for name in given if name not in row.attributes and name not in numbers)
    if unknown:
        raise Unsupported(f"{row.name} with {', '.join(unknown)} has no mapping")
    found = {name: given.get(name, default) for name, default in row.attributes.items()}
    lacking = [name for name, value in found.items() if value is _REQUIRED]
    if lacking:
        raise Unsupported(f"{row.name} lacks its attribute {lacking[0]}")
    return found


def _parameter(text: str) -> Parameter:
    return Parameter(text.strip("#*?"), text.endswith("?"), text.startswith("#"), text.startswith("*"))


def _attribute(text: str) -> tuple[str, Any]:
    name, has_default, default = text.partition("=")
    if has_default:
        return name, ast.literal_eval(default)
    return name.rstrip("?"), None if name.endswith("?") else _REQUIRED


def _split(text: str) -> Sequence[str]:
    """At commas outside of brackets and quotes."""
    return [part.strip() for part in _PART.findall(text) if part.strip()]


def _takes_call(compute: Callable[..., Any]) -> bool:
    try:
        return next(iter(inspect.signature(compute).parameters), "") == "call"
    except (TypeError, ValueError):  # built in
        return False
