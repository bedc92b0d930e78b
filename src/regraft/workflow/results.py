"""What a run leaves in the folder that the user named: the page, and copies of the packages that were made."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from regraft.errors import AccessDenied

REPORT, PACKAGES = "report.html", "packages"


def write_results(folder: Path, page: str, products: Iterable[Path]) -> Path:
    """Write the page, then the packages in place of those of an earlier run; each whole or not at all.

    Args:
        products: files or folders in the store, of different names.
    Returns:
        the page.
    Raises:
        AccessDenied: something cannot be written; the page may be there all the same.
    """
    report = folder / REPORT
    beside = folder / f".{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        (beside / REPORT).write_text(page, encoding="utf-8")
        (beside / REPORT).replace(report)
        _copy(products, beside / PACKAGES)
        _exchange(beside / PACKAGES, folder / PACKAGES)
    except OSError as error:
        where, hint = str(folder), "everything is in the store; name another folder and run again"
        raise AccessDenied(f"the results cannot be written: {_reason(error)}", where=where, hint=hint) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return report


def _copy(products: Iterable[Path], folder: Path) -> None:
    for product in products:
        folder.mkdir(exist_ok=True)
        if product.is_dir():
            shutil.copytree(product, folder / product.name)
        else:
            shutil.copyfile(product, folder / product.name)


def _exchange(made: Path, place: Path) -> None:
    """Put a folder where an earlier run may have left one; with nothing made, that one goes."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    if made.exists():
        made.rename(place)


def _reason(error: OSError) -> str:
    """Why, once: copying a tree collects an error for every file of it, as text."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        said = str(error.args[0][0][-1])
        found = re.match(r"\[Errno \d+\] ([^:]+)", said)
        return found[1] if found else said[:200]
    return error.strerror or str(error)
