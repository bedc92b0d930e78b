"""regraft scan: is it safe to load?"""

from __future__ import annotations

from pathlib import Path

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each

_FILE = click.Path(path_type=Path)


@click.command("scan")
@click.argument("refs", metavar="REF…", nargs=-1, required=True)
@click.option(
    "--allow",
    multiple=True,
    metavar="WHAT",
    help="What you have reviewed: a global (module.name), a rule (RGS-COD-004) or a rule in one file "
    "(RGS-COD-004:modeling_x.py). Only inconclusive findings can be allowed.",
)
@click.option("--allow-file", type=_FILE, metavar="FILE", help="The same, with a reason and a last day each.")
@click.option(
    "--write-allow-file",
    type=_FILE,
    metavar="FILE",
    help="Write an allow file with an entry for everything that is inconclusive now; its reasons are yours to write.",
)
@click.option(
    "--digest/--no-digest",
    default=True,
    help="Hash every byte, so that the evidence is about these bytes and no others.",
)
@click.option(
    "--weights",
    is_flag=True,
    help="Read the numbers of tensors too: programs that hide in them, traces of content in their low bytes.",
)
@common_options
def command(
    refs: tuple[str, ...],
    allow: tuple[str, ...],
    allow_file: Path | None,
    write_allow_file: Path | None,
    digest: bool,
    weights: bool,
    settings: Settings,
) -> int:
    """Is it safe to load? Every file, and every member of its containers, is looked at; nothing is loaded, unpickled
    or executed.

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
    from regraft.trust.scan.allow_file import write_allow_file as write

    records = []

    def examine(ref: str) -> Shown:
        store, offline = settings.store, settings.offline
        evidence = scan(
            ref,
            store=store,
            offline=offline,
            allow=allow,
            allow_file=allow_file,
            compute=digest,
            weights=weights,
        )
        records.append(evidence)
        return Shown(evidence)

    status = each(refs, examine, settings)
    if write_allow_file is not None:
        click.echo(f"written: {write_allow_file}, {write(write_allow_file, records)} entries", err=True)
    return status
