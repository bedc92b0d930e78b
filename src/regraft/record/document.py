"""A YAML file that a person wrote, read value by value: every complaint has its line and the nearest known word."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

from regraft.errors import AccessDenied, NotFound, RegraftError
from regraft.record.bounded_yaml import MAX_YAML_BYTES, Place, YamlError, parse_yaml
from regraft.record.evidence import JSON
from regraft.record.units import convert

_QUANTITY = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([^\s0-9.]\S*)\s*", re.ASCII)
_E = TypeVar("_E", bound=StrEnum)


def read_document(path: Path, *, what: str) -> bytes:
    """The bytes of a file; more than YAML may have are not read.

    Args:
        what: the file is, for messages: "policy", "plan".
    Raises:
        NotFound, AccessDenied: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_YAML_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no such {what} file", where=str(path)) from error
    except OSError as error:
        raise AccessDenied(f"the {what} cannot be read: {error.strerror}", where=str(path)) from error


class Document:
    """Checks the values of one file and complains with their line.

    Args:
        name: of the file, for messages.
        value: what it holds.
        lines: place → line.
        error: the class of every complaint.
    """

    def __init__(self, name: str, value: JSON, lines: dict[Place, int], *, error: type[RegraftError]) -> None:
        self.name = name
        self.value = value
        self._lines = lines
        self._error = error

    def part(self, place: Place) -> Document:
        """The value at a place as a document of its own, whose complaints have the lines of this one."""
        value = self.value
        for step in place:
            assert isinstance(value, dict | list)
            value = value[step]  # type: ignore[index]
        inner = {at[len(place) :]: line for at, line in self._lines.items() if at[: len(place)] == place}
        return Document(self.name, value, inner, error=self._error)

    def judged_by(self, error: type[RegraftError]) -> Document:
        """The same, with complaints of another class."""
        return Document(self.name, self.value, self._lines, error=error)

    def line(self, place: Place) -> int | None:
        """The line of the value at a place, else of the nearest thing around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place)

    def refuse(self, message: str, place: Place, *, hint: str = "") -> NoReturn:
        """Complain about the value at a place."""
        line = self.line(place)
        raise self._error(message, where=f"{self.name}:{line}" if line else self.name, hint=hint)

    def mapping(self, value: JSON, place: Place, known: Sequence[str]) -> dict[str, JSON]:
        """A mapping that has no key but the known ones."""
        if not isinstance(value, dict):
            self.refuse(f"{title(place)} is {kind_of(value)}, not a mapping", place, hint="keys: " + ", ".join(known))
        for key in value:
            if key not in known:
                self.refuse(f"unknown key {key!r}", (*place, key), hint=nearest(key, known))
        return value

    def text(self, value: JSON, place: Place) -> str:
        """A text that is not blank."""
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"{title(place)} is {kind_of(value)}, not a text", place)
        return value

    def texts(self, value: JSON, place: Place, *, hint: str = "") -> tuple[str, ...]:
        """One text or more, as a list."""
        if not isinstance(value, list) or not value:
            self.refuse(f"{title(place)} is {kind_of(value)}, not a list of texts", place, hint=hint)
        return tuple(self.text(item, (*place, index)) for index, item in enumerate(value))

    def items(self, value: JSON, place: Place) -> list[JSON]:
        """A list that is not empty."""
        if not isinstance(value, list) or not value:
            wrong = "an empty list" if value == [] else kind_of(value)
            self.refuse(f"{title(place)} is {wrong}, not a list", place)
        return value

    def choice(self, value: JSON, place: Place, among: type[_E]) -> _E:
        """One of the words of an enumeration."""
        words = [str(word) for word in among]
        if not isinstance(value, str) or value not in words:
            self.refuse(f"{title(place)} is {shown(value)}", place, hint=nearest(str(value), words))
        return among(value)

    def count(self, value: JSON, place: Place, *, least: int = 0, most: int = (1 << 63) - 1) -> int:
        """An integer within bounds, both included."""
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(f"{title(place)} is {shown(value)}, not a whole number", place)
        if not least <= value <= most:
            self.refuse(f"{title(place)} is {value}, which is not between {least} and {most}", place)
        return value

    def amount(self, value: JSON, place: Place, *, unit: str, what: str, example: str) -> float:
        """A quantity with its unit (`20 ms`), in `unit`; zero or more.

        Args:
            what: is wanted, for messages: "a duration".
            example: how to write one, for the hint.
        """
        match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
        number = finite(match[1]) if match else None
        amount = convert(number, match[2], to=unit) if match and number is not None else None
        if amount is None or not math.isfinite(amount):
            is_bare = isinstance(value, int | float) and not isinstance(value, bool)
            message = f"{title(place)} is {shown(value)}, not {what}" + (": the unit is missing" if is_bare else "")
            self.refuse(message, place, hint=f"for example: {title(place)}: {example}")
        return amount


def parse_document(data: bytes, *, name: str, error: type[RegraftError], example: str) -> Document:
    """Parse the bytes of a file.

    Args:
        name: of the file, for messages.
        error: the class of every complaint.
        example: shown where the file is no YAML at all.
    Raises:
        RegraftError: of the class `error`: not UTF-8, not YAML, too large.
    """
    try:
        value, lines = parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as cause:
        raise error("not UTF-8 text", where=name, hint=example) from cause
    except YamlError as cause:
        raise error(str(cause), where=f"{name}:{cause.line}" if cause.line else name, hint=example) from cause
    return Document(name, value, lines, error=error)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, else all of them."""
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(words)


def title(place: Place) -> str:
    """What a person calls the value at a place."""
    named = next((step for step in reversed(place) if isinstance(step, str)), None)
    if named is None:
        return "the file"
    return named if isinstance(place[-1], str) else f"{named}, item {int(place[-1]) + 1},"


def kind_of(value: JSON) -> str:
    """What a person calls the type of a value."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "empty"}
    return names.get(type(value), "a number")


def shown(value: JSON) -> str:
    """A value as a message quotes it."""
    return repr(value)[:80] if isinstance(value, str | int | float) else kind_of(value)


def finite(text: str) -> float | None:
    """The number that a text is, None when it is none or not finite."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
