"""Chapters of a run's report, and how its numbers are written."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from regraft.record.evidence import Measurement, Verdict
from regraft.report.figures import Figure
from regraft.report.quantity import bytes_text, digits_text
from regraft.report.sections import MARKS, Section

UNKNOWN = "unknown"
_BYTES = re.compile(r"\b(\d[\d.]*(?:e\+?\d+)?) bytes\b")
_PERCENT = re.compile(r"(?<=\d)%")


class Node(msgspec.Struct, frozen=True):
    """One package in a chain."""

    role: str
    name: str
    digest: str


class Chapter(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the page.

    Attributes:
        anchor: for links within the page.
        lead: sentences that say the result.
        chain: packages in the order in which they were made; those of one place side by side.
        figures: each carries its numbers.
        tables: shown as they are.
        more: tables that a reader opens.
        gaps: what is not known, in sentences.
        command: that makes this part alone; empty where only the whole run does.
    """

    anchor: str
    title: str
    lead: tuple[str, ...] = ()
    chain: tuple[tuple[Node, ...], ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Section, ...] = ()
    more: tuple[Section, ...] = ()
    gaps: tuple[str, ...] = ()
    command: str = ""


def percent(value: float | int | None) -> str:
    """A share as percent with one digit: `74.7 %`."""
    return UNKNOWN if value is None else f"{value:.1%}".replace("%", " %")


def value_text(one: Measurement | None) -> str:
    """A measured value in its unit; shares as percent."""
    if one is None or one.value is None:
        return UNKNOWN
    if one.unit in ("bytes", "byte", "B"):
        return bytes_text(one.value)
    if one.unit in ("1", "ratio"):
        return percent(one.value)
    return f"{_end(one.value, one.unit)} {'' if one.unit in ('files', 'parameters') else one.unit}".rstrip()


def interval_text(one: Measurement | None) -> str:
    """`[72.8, 76.6]` in the unit of the value; a missing end is `?`, no interval is `none`."""
    if one is None or (one.low is None and one.high is None):
        return "none"
    ends = ("?" if end is None else _end(end, one.unit) for end in (one.low, one.high))
    return f"[{', '.join(ends)}]"


def _end(value: float | int, unit: str) -> str:
    if unit in ("1", "ratio"):
        return f"{value:.1%}".rstrip("%")
    if unit in ("bytes", "byte", "B"):
        return bytes_text(value)
    return f"{value:.1f}" if unit == "points" else digits_text(value)


def with_interval(one: Measurement | None) -> str:
    """Value and interval in one cell; the value alone where there is none."""
    shown = interval_text(one)
    return value_text(one) if shown == "none" else f"{value_text(one)} {shown}"


def count_of(one: Measurement | None) -> str:
    """The sample size."""
    return UNKNOWN if one is None or one.n is None else f"{one.n:,}"


def rewritten(words: str) -> str:
    """A verb's own words with numbers as the page writes them: `75.5 %`, `91.4 MB`."""
    return _PERCENT.sub(" %", _BYTES.sub(lambda found: bytes_text(float(found[1])), words))


def sentence(words: str) -> str:
    """The same as a sentence, with a capital (so not for words that begin with a name) and a full stop."""
    told = rewritten(words)
    return told[:1].upper() + told[1:] + ("" if told.endswith(".") or not told else ".")


def verdict_text(verdict: Verdict | None, outcome: str = "") -> str:
    """A verdict in a cell: mark, word, and the verb's own word."""
    if verdict is None:
        return UNKNOWN
    return f"{MARKS[verdict]} {verdict.value}" + (f" · {outcome}" if outcome else "")


def tone(verdict: Verdict | None) -> str:
    """The word by which a row is emphasised."""
    return "absent" if verdict is None else verdict.value


def cell(value: Any) -> str:
    """A JSON value in a cell."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(cell, value)) if isinstance(value, list) else str(value)


def limit_text(one: Measurement) -> str:
    """Up to which ratio rounding explains a divergence."""
    limit = one.of.get("benign_up_to")
    return f"≤ {limit:.3g}" if isinstance(limit, int | float) else UNKNOWN
