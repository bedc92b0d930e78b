"""Descriptions of sites, made once for all rule families."""

from __future__ import annotations

from regraft.errors import RegraftError
from regraft.package.formats import Description
from regraft.package.formats.pickle_streams import KEPT
from regraft.trust.scan.interface import Site

_KEY = "scan description"


def description_of(site: Site) -> Description | RegraftError | None:
    """What the format says of a site; the error that it stopped with; None for an unknown format."""
    if site.format is None:
        return None
    kept = site.probe.__dict__
    if _KEY not in kept:
        try:
            kept[_KEY] = site.format.describe(site.probe)
        except RegraftError as error:
            kept[_KEY] = error
    found: Description | RegraftError = kept[_KEY]
    return found


def forget(site: Site) -> None:
    """Drop the description and what else is cached of a site's content."""
    for key in (_KEY, KEPT, "zip", "text", "json"):
        site.probe.__dict__.pop(key, None)
