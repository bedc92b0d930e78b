"""Policy files: YAML into a `Policy`, with the line and the nearest known word in every complaint."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

from regraft.errors import AccessDenied, NotFound, PolicyError
from regraft.record.bounded_yaml import MAX_YAML_BYTES, Place, YamlError, parse_yaml
from regraft.record.digest import digest_bytes
from regraft.record.evidence import JSON, DigestKind, Severity, Verdict
from regraft.record.passport import KINDS
from regraft.record.policy import OPERATORS, Demand, Policy, Threshold
from regraft.record.units import UNITS, convert

SCHEMA = "regraft.policy/1"
_THRESHOLD = re.compile(r"\s*([\w.@/-]+?)\s*(<=|>=|<|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\S*)\s*", re.ASCII)
_QUANTITY = re.compile(r"\s*([0-9.]+)\s*(\S+)\s*", re.ASCII)
_E = TypeVar("_E", bound=StrEnum)


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: it cannot be understood; `where` is file:line.
        NotFound, AccessDenied: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound("there is no such policy file", where=str(path)) from error
    except OSError as error:
        raise AccessDenied(f"the policy cannot be read: {error.strerror}", where=str(path)) from error
    return parse_policy(data, name=str(path))


def parse_policy(data: bytes, *, name: str = "policy") -> Policy:
    """Parse the bytes of a policy file.

        schema: regraft.policy/1
        name: production
        evidence:
          scan: {verdict: pass, max_severity: medium, max_age: 30 d}
          bench:
            measurements:
              - latency_p95.high <= 20 ms
              - {that: accuracy >= 0.7, of: {runtime: onnxruntime}}
        licences: [MIT, Apache-2.0]

    Args:
        name: of the file, for messages.
    Raises:
        PolicyError: unknown key, wrong type, unknown unit, nothing demanded.
    """
    try:
        value, lines = parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise PolicyError("not UTF-8 text", where=name, hint=_EXAMPLE) from error
    except YamlError as error:
        raise PolicyError(str(error), where=f"{name}:{error.line}" if error.line else name, hint=_EXAMPLE) from error
    reader = _Reader(name, lines)
    top = reader.mapping(value, (), ("schema", "name", "evidence", "licences"))
    if top.get("schema") != SCHEMA:
        reader.refuse(f"the schema is not {SCHEMA!r}", ("schema",), hint=f"schema: {SCHEMA}")
    demands = reader.demands(top.get("evidence", {}))
    licences = reader.texts(top["licences"], ("licences",)) if "licences" in top else None
    if not demands and licences is None:
        reader.refuse("the policy demands nothing", (), hint=_EXAMPLE)
    label = reader.text(top["name"], ("name",)) if "name" in top else Path(name).stem
    return Policy(label, digest_bytes(data), demands, licences)


class _Reader:
    """Checks values of one file and complains with their line."""

    def __init__(self, name: str, lines: dict[Place, int]) -> None:
        self._name = name
        self._lines = lines

    def line(self, place: Place) -> int | None:
        """The line of the value at a place, else of the nearest thing around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place)

    def refuse(self, message: str, place: Place, *, hint: str = "") -> NoReturn:
        line = self.line(place)
        raise PolicyError(message, where=f"{self._name}:{line}" if line else self._name, hint=hint)

    def mapping(self, value: JSON, place: Place, known: Sequence[str]) -> dict[str, JSON]:
        if not isinstance(value, dict):
            self.refuse(f"{_title(place)} is {_type(value)}, not a mapping", place, hint="keys: " + ", ".join(known))
        for key in value:
            if key not in known:
                self.refuse(f"unknown key {key!r}", (*place, key), hint=_nearest(key, known))
        return value

    def text(self, value: JSON, place: Place) -> str:
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"{_title(place)} is {_type(value)}, not a text", place)
        return value

    def texts(self, value: JSON, place: Place) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            self.refuse(f"{_title(place)} is {_type(value)}, not a list of texts", place, hint="[MIT, Apache-2.0]")
        return tuple(self.text(item, (*place, index)) for index, item in enumerate(value))

    def choice(self, value: JSON, place: Place, among: type[_E]) -> _E:
        words = [str(word) for word in among]
        if not isinstance(value, str) or value not in words:
            self.refuse(f"{_title(place)} is {_shown(value)}", place, hint=_nearest(str(value), words))
        return among(value)

    def demands(self, value: JSON) -> tuple[Demand, ...]:
        place: Place = ("evidence",)
        return tuple(
            self._demand(kind, inner, (*place, kind)) for kind, inner in self.mapping(value, place, KINDS).items()
        )

    def _demand(self, kind: str, value: JSON, place: Place) -> Demand:
        keys = ("verdict", "digest", "max_severity", "max_age", "measurements")
        fields = self.mapping({} if value is None else value, place, keys)
        demand = Demand(kind, line=self.line(place))
        verdict = fields.get("verdict", "pass")
        several = verdict if isinstance(verdict, list) and verdict else [verdict]
        measurements = fields.get("measurements", [])
        if not isinstance(measurements, list):
            self.refuse(f"measurements is {_type(measurements)}, not a list", (*place, "measurements"))
        return Demand(
            kind,
            verdicts=tuple(self.choice(word, (*place, "verdict"), Verdict) for word in several),
            digest=self.choice(fields.get("digest", demand.digest.value), (*place, "digest"), DigestKind),
            max_severity=self.choice(fields["max_severity"], (*place, "max_severity"), Severity)
            if "max_severity" in fields
            else None,
            max_age_s=self._duration(fields["max_age"], (*place, "max_age")) if "max_age" in fields else None,
            measurements=tuple(
                self._threshold(item, (*place, "measurements", index)) for index, item in enumerate(measurements)
            ),
            line=demand.line,
        )

    def _duration(self, value: JSON, place: Place) -> float:
        match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
        number = _float(match[1]) if match else None
        seconds = convert(number, match[2], to="s") if match and number is not None else None
        if seconds is None:
            self.refuse(f"{_title(place)} is {_shown(value)}, not a duration", place, hint="for example: max_age: 30 d")
        return seconds

    def _threshold(self, value: JSON, place: Place) -> Threshold:
        of: dict[str, JSON] = {}
        if isinstance(value, dict):
            fields = self.mapping(value, place, ("that", "of"))
            inner = fields.get("of", {})
            if not isinstance(inner, dict):
                self.refuse(f"of is {_type(inner)}, not a mapping", (*place, "of"), hint="of: {runtime: onnxruntime}")
            of, value = inner, fields.get("that")
        match = _THRESHOLD.fullmatch(value) if isinstance(value, str) else None
        number = _float(match[3]) if match else None
        if match is None or number is None or not isinstance(value, str):
            self.refuse(f"{_shown(value)} is not a comparison", place, hint="for example: latency_p95.high <= 20 ms")
        name, bound = _split_bound(match[1])
        if bound not in {None, "low", "high"}:
            hint = f"{name}.low, {name}.high, or {name} alone for the whole interval"
            self.refuse(f"{match[1]}: a point is not compared, an interval is", place, hint=hint)
        if match[4] not in UNITS:
            self.refuse(f"unknown unit {match[4]!r}", place, hint=_nearest(match[4], [u for u in UNITS if u]))
        assert match[2] in OPERATORS
        return Threshold(name, bound, match[2], number, match[4], of, value.strip(), self.line(place))


def _split_bound(name: str) -> tuple[str, str | None]:
    stem, dot, last = name.rpartition(".")
    return (stem, last) if dot and last in {"low", "high", "value"} else (name, None)


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _nearest(word: str, known: Iterable[str]) -> str:
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(words)


def _title(place: Place) -> str:
    return str(place[-1]) if place else "the policy"


def _type(value: JSON) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "empty"}
    return names.get(type(value), "a number")


def _shown(value: JSON) -> str:
    return repr(value)[:80] if isinstance(value, str | int | float) else _type(value)


_EXAMPLE = f"for example:  schema: {SCHEMA}  /  evidence: {{scan: {{verdict: pass}}}}"
