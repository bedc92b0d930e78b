"""regraft fetch: pin a reference and keep it."""

from __future__ import annotations

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("fetch")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@common_options
def command(refs: tuple[str, ...], settings: Settings) -> int:
    """Pin a reference to exact bytes and keep everything that later --offline calls need. Digests that an index
    declares are checked; nothing is installed, built or executed.

    \b
    regraft fetch pypi://silero-vad==6.2.3
    regraft fetch npm://@spotify/basic-pitch@1.0.1
    """
    from regraft.package.fetch import fetch

    def examine(ref: str) -> Shown:
        return Shown(fetch(ref, store=settings.store, offline=settings.offline))

    return each(refs, examine, settings)
