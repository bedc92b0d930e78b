"""regraft reproduce: does a published number hold?"""

from __future__ import annotations

from pathlib import Path

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("reproduce")
@click.argument("claims", metavar="CLAIM…", nargs=-1, required=True)
@click.option("--repeats", type=click.IntRange(1), default=2, show_default=True, help="Evaluations, to see the spread.")
@click.option("--threads", type=click.IntRange(1), multiple=True, help="Threads to evaluate with; default: 1 and all.")
@click.option("--margin", type=click.FloatRange(0), help="How far off is allowed; default: half of the last digit.")
@click.option("--seed", type=int, default=0, help="Of resampling.")
@common_options
def command(
    claims: tuple[str, ...], repeats: int, threads: tuple[int, ...], margin: float | None, seed: int, settings: Settings
) -> int:
    """Does a published number hold? CLAIM is a file that names the model, the data, the metric and the value as it
    was printed. The margin is fixed by a rule before anything is measured.

    \b
    exit 0  reproduced, or better
    exit 1  not reproduced
    exit 3  undecided: could not be evaluated, or the sample is too small

    \b
    schema: regraft.claim/1
    model: pypi://silero-vad==6.2.3#silero_vad/data/silero_vad.onnx
    data: pypi://pyannote-audio==4.0.7#pyannote/audio/sample
    evaluation: voice-activity
    metric: roc_auc
    value: "0.9958"
    scoring: {label: last}
    """
    from regraft.conceptual.claim import read_claim
    from regraft.workflow.reproduce import reproduce

    stated = {name: read_claim(Path(name), from_user=True) for name in claims}
    if settings.dry_run:
        return each([str(claim.model) for claim in stated.values()], lambda ref: Shown(reproduce(ref)), settings)

    def examine(name: str) -> Shown:
        evidence = reproduce(
            stated[name],
            repeats=repeats,
            threads=threads or None,
            margin=margin,
            seed=seed,
            store=settings.store,
            offline=settings.offline,
        )
        return Shown(evidence)

    return each(claims, examine, settings)
