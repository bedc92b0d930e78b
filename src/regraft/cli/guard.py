"""regraft guard: run a program that scans what it loads."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("guard", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", metavar="COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--refuse",
    type=click.Choice(["inconclusive", "dangerous"]),
    default="inconclusive",
    help="What is not let through: also what scan cannot decide, or only what it fails on.",
)
@click.option("--allow", multiple=True, metavar="WHAT", help="What you have reviewed, as scan takes it.")
@click.option("--allow-file", type=click.Path(path_type=Path), metavar="FILE", help="Reviews, as scan takes them.")
def command(command: tuple[str, ...], refuse: str, allow: tuple[str, ...], allow_file: Path | None) -> int:
    """Run a Python program whose torch.load, pickle.load, joblib.load, from_pretrained and the like scan a file
    before they open it. What scan refuses raises PermitRefused in the program.

    The exit status is the program's.

    \b
    regraft guard python train.py
    regraft guard --refuse dangerous pytest
    """
    from regraft.errors import NotFound
    from regraft.trust.scan.allow_file import read_allow_file
    from regraft.workflow.guard import run_guarded

    if allow_file is not None:
        read_allow_file(allow_file)
    options = {"refuse": refuse, "allow": list(allow), "allow_file": str(allow_file.resolve()) if allow_file else None}
    try:
        return run_guarded(command, options)
    except FileNotFoundError as error:
        raise NotFound("there is no such program", where=command[0]) from error
