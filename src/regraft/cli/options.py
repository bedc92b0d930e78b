"""Options that every verb has, gathered into one `Settings` value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from regraft.record.store import Store, open_store

FORMATS = ("human", "json", "sarif", "markdown", "html")


class Settings(msgspec.Struct, frozen=True):
    """The common options of one command line."""

    format: str = "human"
    output: Path | None = None
    quiet: bool = False
    verbose: bool = False
    progress: bool = True
    offline: bool = False
    dry_run: bool = False
    store_path: Path | None = None

    @property
    def store(self) -> Store:
        """The store to record in; created at the first write."""
        return open_store(self.store_path)


_TO_FILE = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the result to this file."
)
_TO_FOLDER = click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to make; an empty one will do."
)
_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--format", "format_", type=click.Choice(FORMATS), default="human", help="Form of the result."),
    click.option("--json", "as_json", is_flag=True, help="Short for --format json."),
    click.option("-q", "--quiet", is_flag=True, help="Only the verdict line."),
    click.option("-v", "--verbose", is_flag=True, help="Everything, nothing summarised."),
    click.option("--no-progress", is_flag=True, help="No progress bars."),
    click.option("--offline", is_flag=True, help="No network: only what was fetched before."),
    click.option("--dry-run", is_flag=True, help="Say what would be looked at, and stop."),
    click.option(
        "--store",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="REGRAFT_STORE",
        help="Where evidence is kept.",
    ),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)


def common_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the common options to a command; it receives them as the keyword argument `settings`."""
    return _with(function, _TO_FILE)


def folder_options(function: Callable[..., int]) -> Callable[..., int]:
    """As `common_options`, for a verb whose `-o` is the folder that it makes."""
    return _with(function, _TO_FOLDER)


def _with(function: Callable[..., int], output: Callable[[Any], Any]) -> Callable[..., int]:
    @functools.wraps(function)
    def command(**values: Any) -> int:
        wanted, as_json = values.pop("format_"), values.pop("as_json")
        settings = Settings(
            format="json" if as_json else wanted,
            output=values.pop("output"),
            quiet=values.pop("quiet"),
            verbose=values.pop("verbose"),
            progress=not values.pop("no_progress"),
            offline=values.pop("offline"),
            dry_run=values.pop("dry_run"),
            store_path=values.pop("store"),
        )
        values.pop("debug")
        from regraft.cli.progress_bar import progress_bars

        with progress_bars(visible=settings.progress and not settings.quiet):
            return function(settings=settings, **values)

    first, second, *others = _OPTIONS
    for option in reversed((first, second, output, *others)):
        command = option(command)
    return command
