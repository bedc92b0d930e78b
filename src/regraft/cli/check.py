"""regraft check: may I use it?"""

from __future__ import annotations

from pathlib import Path

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("check")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@click.option(
    "--policy",
    "policy",
    required=True,
    type=click.Path(path_type=Path),
    help="Policy file (YAML, schema regraft.policy/1).",
)
@common_options
def command(refs: tuple[str, ...], policy: Path, settings: Settings) -> int:
    """May I use it? Judges a package by a policy, on the evidence that the store holds about exactly these bytes.
    What no evidence speaks of is undecided, never allowed.

    \b
    regraft scan ./model && regraft check ./model --policy policy.yaml
    """
    from regraft.package.sources.interface import SourceOptions
    from regraft.trust.check import check

    options = SourceOptions(offline=settings.offline, store=settings.store)

    def examine(ref: str) -> Shown:
        return Shown(check(ref, policy, store=settings.store, options=options))

    return each(refs, examine, settings)
