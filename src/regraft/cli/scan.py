"""regraft scan: is it safe to load?"""

from __future__ import annotations

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each


@click.command("scan")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@click.option(
    "--allow",
    multiple=True,
    metavar="WHAT",
    help="What you have reviewed: a global (module.name), a rule (RGS-COD-004) or a rule in one file "
    "(RGS-COD-004:modeling_x.py). Only inconclusive findings can be allowed.",
)
@common_options
def command(refs: tuple[str, ...], allow: tuple[str, ...], settings: Settings) -> int:
    """Is it safe to load? Every byte of every file, and of every member of its containers, is looked at; nothing
    is loaded, unpickled or executed.

    \b
    exit 0  clean: the usual loaders run no code from these files
    exit 1  dangerous: loading would do harm; each finding says what, where and why
    exit 3  unknown: something could not be decided; each finding says what is missing

    \b
    regraft scan model.pt
    regraft scan pypi://silero-vad==6.2.3 --json
    regraft scan ./repo --format sarif -o scan.sarif
    """
    from regraft.trust.scan import scan

    def examine(ref: str) -> Shown:
        return Shown(scan(ref, store=settings.store, offline=settings.offline, allow=allow))

    return each(refs, examine, settings)
