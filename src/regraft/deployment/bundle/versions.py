"""Libraries that a bundle was made with, by the names that a receiver installs them under."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, packages_distributions, version


def installed(module: str) -> tuple[str, str | None]:
    """The distribution that brings a module, and its version: onnxruntime comes as onnxruntime-gpu, too.

    Returns:
        the module's own name and None where no distribution says that it brings it.
    """
    try:
        return module, version(module)
    except PackageNotFoundError:
        found = packages_distributions().get(module, ())
        return (found[0], version(found[0])) if found else (module, None)


def requirement(module: str) -> str:
    """A line of `requirements.txt`."""
    name, number = installed(module)
    return f"{name}=={number}" if number else name


__all__ = ["installed", "requirement"]
