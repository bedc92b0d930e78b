"""regraft doctor: what works here?"""

from __future__ import annotations

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, emit


@click.command("doctor")
@click.option("--reindex", is_flag=True, help="Rebuild the index of the store from its evidence.")
@click.option("--network", is_flag=True, help="Also ask the registries whether they answer.")
@click.option("--environment", metavar="NAME", help="Make this environment of its own first, as tensorflow.")
@common_options
def command(reindex: bool, network: bool, environment: str | None, settings: Settings) -> int:
    """What works in this environment, and why not: Python, the store, extras, runtimes (imported in processes of
    their own, so that a crash is survived), converters, known traps.

    \b
    regraft doctor
    regraft doctor --reindex
    regraft doctor --environment tensorflow
    """
    from regraft.workflow.doctor import doctor

    evidence = doctor(store=settings.store, reindex=reindex, network=network, environment=environment)
    return emit([Shown(evidence)], settings, keep=evidence.outcome != "broken")
