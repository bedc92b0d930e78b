"""Options that say where labelled data is and how it is meant, gathered into one `DataSpec`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from regraft.errors import UsageError

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--data", required=True, metavar="REF", help="Labelled rows: CSV, TSV or JSON lines; package or path."
    ),
    click.option("--text", metavar="COLUMN", help="Column of the texts; default: the usual names."),
    click.option("--label", metavar="COLUMN", help="Column of the labels; default: the usual names."),
    click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows with this value."),
    click.option("--name-label", "labels", multiple=True, metavar="LABEL=NAME", help="Raw label and its name."),
    click.option("--learn", type=click.IntRange(1), default=1000, show_default=True, help="Rows to learn from."),
    click.option("--held-out", type=click.IntRange(1), default=2000, show_default=True, help="Rows to judge by."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random."),
    click.option("--threads", type=click.IntRange(1), help="Threads of a pass; default: the runtime's."),
    click.option("--time-limit", "time_limit_s", type=click.FloatRange(1), default=900.0, help="Seconds a candidate."),
)


_COLUMNS = _OPTIONS[1:5]
_TASK_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--data",
        metavar="REF",
        help="Labelled rows of the task, to compare decisions on: a table, or .npz with labels.",
    ),
    *_COLUMNS,
    click.option(
        "--held-out", type=click.IntRange(1), default=2000, show_default=True, help="Rows of --data to judge by."
    ),
    click.option(
        "--margin", type=float, default=0.01, show_default=True, help="Accuracy that may be lost, as a share."
    ),
)


def task_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options of labelled rows, which need not be there: `data`, and `columns`, fields of `DataSpec`."""

    @functools.wraps(function)
    def command(**values: Any) -> int:
        columns = {
            "text": values.pop("text"),
            "label": values.pop("label"),
            "where": pairs(values.pop("where"), "--where"),
            "labels": pairs(values.pop("labels"), "--name-label"),
            "held_out": values.pop("held_out"),
        }
        return function(columns=columns, **values)

    for option in reversed(_TASK_OPTIONS):
        command = option(command)
    return command


def data_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command; it receives the data as the keyword argument `data`."""

    @functools.wraps(function)
    def command(**values: Any) -> int:
        from regraft.adaptation.data import DataSpec

        data = DataSpec(
            ref=values.pop("data"),
            text=values.pop("text"),
            label=values.pop("label"),
            where=pairs(values.pop("where"), "--where"),
            labels=pairs(values.pop("labels"), "--name-label"),
            learn=values.pop("learn"),
            held_out=values.pop("held_out"),
        )
        return function(data=data, **values)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """`a=b` texts as a mapping.

    Raises:
        UsageError: one has no `=`.
    """
    for text in given:
        if "=" not in text:
            raise UsageError(f"{text!r} is no pair", where=option, hint=f"{option} key=value")
    return dict(text.split("=", 1) for text in given)
