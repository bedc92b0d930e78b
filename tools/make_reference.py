"""Write the pages of docs/reference that are generated from the code.

usage: make_reference.py [--check]    --check writes nothing and exits 1 when a page is stale
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from reference.cli import cli_page
from reference.converters import converters_page
from reference.errors import error_classes, errors_page
from reference.formats import formats_page
from reference.rules import rules_page
from regraft.record.schema import evidence_schema

REFERENCE = Path(__file__).parent.parent / "docs/reference"

__all__ = [
    "PAGES",
    "cli_page",
    "converters_page",
    "error_classes",
    "errors_page",
    "formats_page",
    "main",
    "rules_page",
    "stale_pages",
]

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "converters.md": converters_page,
    "errors.md": errors_page,
    "evidence.schema.json": lambda: evidence_schema().decode(),
    "formats.md": formats_page,
    "rules.md": rules_page,
}
"""File below docs/reference → what writes it."""


def stale_pages(folder: Path) -> list[str]:
    """Names of the pages whose text in `folder` is not what the code says."""
    found = []
    for name, write in PAGES.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != write():
            found.append(name)
    return found


def main(arguments: list[str]) -> int:
    """Write the stale pages, or only name them."""
    stale = stale_pages(REFERENCE)
    if "--check" in arguments:
        for name in stale:
            print(f"docs/reference/{name} is stale: run `make reference`")
        return bool(stale)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
