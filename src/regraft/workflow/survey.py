"""Survey: many packages fetched, inspected and scanned, for one page about all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.errors import RegraftError
from regraft.package.fetch import fetch
from regraft.progress import progress
from regraft.record.evidence import Evidence
from regraft.report.gallery import Entry
from regraft.trust.scan import scan
from regraft.workflow.inspect import inspect

if TYPE_CHECKING:
    from regraft.record.store import Store


def survey(refs: Sequence[str], *, store: Store, offline: bool = False) -> list[Entry]:
    """Fetch, inspect and scan packages; one that cannot be had is an entry that says why.

    Args:
        refs: references as a user writes them.
        store: where the packages and all evidence are kept.
        offline: no network; only what was fetched before.
    """
    entries = []
    with progress("surveying", total=len(refs), unit="packages") as advance:
        for ref in refs:
            entries.append(_entry(ref, store, offline=offline))
            advance(1)
    return entries


def _entry(ref: str, store: Store, *, offline: bool) -> Entry:
    inspection: Evidence | None = None
    try:
        if not offline:
            fetch(ref, store=store)
        inspection = inspect(ref, store=store, offline=True).evidence
        store.put_evidence(inspection)
        scanned = scan(ref, store=store, offline=True)
        store.put_evidence(scanned)
    except RegraftError as error:
        return Entry(ref, inspection, error=f"{error}" + (f" ({error.hint})" if error.hint else ""))
    return Entry(ref, inspection, scanned)
