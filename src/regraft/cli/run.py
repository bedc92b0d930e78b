"""regraft run: do all of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from regraft.cli.options import Settings, common_options
from regraft.cli.output import Shown, emit


@click.command("run")
@click.argument("plan", metavar="PLAN", type=click.Path(path_type=Path))
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.html and the packages that were made. Default: the name of the plan.",
)
@click.option("--engine", default="local", show_default=True, help="Where steps run: local, local://CORES.")
@common_options
def command(plan: Path, into: Path | None, engine: str, settings: Settings) -> int:
    """Do all of it: choose among candidates on your data, adapt, convert, verify, measure, judge, report. PLAN is a
    file that says what you want (YAML, schema regraft.plan/1); the steps follow from it.

    What an earlier run found out and nothing has changed is kept, so an interrupted run goes on where it was.

    \b
    regraft run reuse.yaml --dry-run
    regraft run reuse.yaml --into build
    """
    from regraft.cli.step_table import step_table, steps_text
    from regraft.workflow.plan_file import read_plan
    from regraft.workflow.run import run

    wanted = read_plan(plan)
    if settings.dry_run:
        planned = run(wanted, store=settings.store, engine=engine, dry_run=True, offline=settings.offline)
        table = steps_text(planned.steps) + planned.evidence.summary
        sys.stdout.write((planned.evidence.to_json().decode() if settings.format == "json" else table) + "\n")
        return 0
    with step_table(shown=settings.progress and not settings.quiet) as watch:
        done = run(
            wanted,
            store=settings.store,
            engine=engine,
            offline=settings.offline,
            out=into or Path(f"regraft-{plan.stem}"),
            watch=watch,
        )
    if done.report is not None and not settings.quiet:
        sys.stderr.write(f"written: {done.report}\n")
    return emit([Shown(done.evidence)], settings)
