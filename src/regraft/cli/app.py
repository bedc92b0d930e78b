"""The command group: verbs are imported when they are called, errors end in one message and an exit code."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import click

from regraft.errors import AccessDenied, InternalError, RegraftError, UsageError
from regraft.version import __version__

_VERBS = {
    "inspect": "What is this? Formats, tensors, licence, claims; contradictions named.",
    "scan": "Is it safe to load? Looks inside every file without loading it.",
    "guard": "Run a program that scans what it loads before it opens it.",
    "fetch": "Pin a reference and keep everything that later --offline calls need.",
    "reproduce": "Does a published number hold? The margin is declared before looking.",
    "replicate": "Is my re-implementation the same network, and if not, where and why?",
    "select": "Which of these serves my data, and is reuse worth it at all?",
    "adapt": "Make it mine: a head on its features, fused into one package that runs by itself.",
    "convert": "The same network for another runtime, verified against the source.",
    "verify": "Is it still the same network? Differences in units of what rounding explains.",
    "bench": "How fast, how large? Latency, throughput and memory, models taking turns.",
    "bundle": "Hand it over: in the layout that a server or registry expects, with its evidence.",
    "check": "May I use it? A policy, judged on the evidence in the store.",
    "run": "Do all of it: a plan, from candidates to a verified, measured, judged package.",
    "doctor": "What works in this environment, and why not.",
}
"""Verb → one line for `--help`; the command is `regraft.cli.<verb>:command`."""

_INTERRUPTED = 130


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f"regraft.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            raise UsageError(f"there is no verb {args[0]!r}", hint=_nearest_verb(args[0]))
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Verbs,
    subcommand_metavar="VERB REF… [options]",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="regraft VERB --help explains one verb.",
)
@click.version_option(__version__, prog_name="regraft", message="%(prog)s %(version)s")
def application() -> None:
    """Reuse a trained network that somebody else made, with evidence at every cut.

    REF names a package: a path, pypi://name==version, npm://name@version, hf://org/name@revision,
    https://…, git+https://…@commit; #file behind it picks a file or folder inside.

    Exit: 0 pass, 1 fail, 2 could not be used, 3 inconclusive, 130 interrupted.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit status (docs/explanation/verdicts.md) and never lets a traceback out."""
    wants_json = _wants_json(arguments)
    try:
        result = application.main(args=list(arguments), prog_name="regraft", standalone_mode=False)
        sys.stdout.flush()
    except RegraftError as error:
        return _report(error, wants_json=wants_json, debug="--debug" in arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "regraft"
        usage = UsageError(error.format_message().rstrip("."), where=command, hint=f"{command} --help")
        return _report(usage, wants_json=wants_json)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted; what was finished is kept\n")
        return _INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return 0
    except OSError as error:
        return _report(_refused(error), wants_json=wants_json, debug="--debug" in arguments)
    except Exception as error:  # noqa: BLE001  the last boundary: a fault of ours is told, not thrown
        return _report(_internal(error), wants_json=wants_json, debug="--debug" in arguments)
    return result if isinstance(result, int) else 0


def _report(error: RegraftError, *, wants_json: bool, debug: bool = False) -> int:
    """One message on stderr; with `--json` also the error object on stdout. Always exit status 2."""
    from regraft.cli.output import error_as_json, error_as_text

    if debug:
        traceback.print_exception(error.__cause__ or error)
    sys.stderr.write(error_as_text(error))
    if wants_json:
        sys.stdout.write(error_as_json(error))
    return 2


def _refused(error: OSError) -> AccessDenied:
    """The operating system said no where nobody expected it: disk full, descriptors gone, file vanished."""
    wrapped = AccessDenied(f"the operating system refused: {error.strerror or error}", where=str(error.filename or ""))
    wrapped.__cause__ = error
    return wrapped


def _internal(error: Exception) -> InternalError:
    wrapped = InternalError(
        f"a fault in regraft {__version__}: {type(error).__name__}: {error}",
        hint="run it again with --debug and file the traceback as an issue",
    )
    wrapped.__cause__ = error
    return wrapped


def _wants_json(arguments: Sequence[str]) -> bool:
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return any(a in ("--json", "--format=json") or (a == "--format" and b == "json") for a, b in pairs)


def _nearest_verb(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, _VERBS, n=1)
    return f"did you mean: regraft {close[0]}" if close else "regraft --help lists the verbs"


def _close_stdout() -> None:
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
