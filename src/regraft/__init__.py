"""Regraft: reuse a trained network that somebody else made, with evidence at every cut.

Every verb is one function that returns `Evidence`, or an object that has `.evidence`:

    import regraft as rg
    rg.scan("model.pt").verdict
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.version import __version__

if TYPE_CHECKING:
    from regraft.errors import RegraftError
    from regraft.package.fetch import fetch
    from regraft.package.package import Package
    from regraft.package.package import open_by_reference as open  # noqa: A004
    from regraft.record.evidence import Evidence, Severity, Verdict
    from regraft.record.store import open_store
    from regraft.trust.check import check
    from regraft.trust.scan import scan
    from regraft.workflow.adapt import adapt
    from regraft.workflow.bench import bench
    from regraft.workflow.bundle import bundle
    from regraft.workflow.convert import convert
    from regraft.workflow.doctor import doctor
    from regraft.workflow.fidelity import fidelity
    from regraft.workflow.guard import guard
    from regraft.workflow.inspect import inspect
    from regraft.workflow.load import load, load_weights
    from regraft.workflow.portability import portability
    from regraft.workflow.replicate import replicate
    from regraft.workflow.reproduce import reproduce
    from regraft.workflow.run import run
    from regraft.workflow.select import select
    from regraft.workflow.verify import verify

_PUBLIC = {
    "Evidence": "regraft.record.evidence:Evidence",
    "Package": "regraft.package.package:Package",
    "RegraftError": "regraft.errors:RegraftError",
    "Severity": "regraft.record.evidence:Severity",
    "Verdict": "regraft.record.evidence:Verdict",
    "adapt": "regraft.workflow.adapt:adapt",
    "bench": "regraft.workflow.bench:bench",
    "bundle": "regraft.workflow.bundle:bundle",
    "check": "regraft.trust.check:check",
    "convert": "regraft.workflow.convert:convert",
    "doctor": "regraft.workflow.doctor:doctor",
    "fetch": "regraft.package.fetch:fetch",
    "fidelity": "regraft.workflow.fidelity:fidelity",
    "guard": "regraft.workflow.guard:guard",
    "inspect": "regraft.workflow.inspect:inspect",
    "load": "regraft.workflow.load:load",
    "load_weights": "regraft.workflow.load:load_weights",
    "open": "regraft.package.package:open_by_reference",
    "open_store": "regraft.record.store:open_store",
    "portability": "regraft.workflow.portability:portability",
    "replicate": "regraft.workflow.replicate:replicate",
    "reproduce": "regraft.workflow.reproduce:reproduce",
    "run": "regraft.workflow.run:run",
    "scan": "regraft.trust.scan:scan",
    "select": "regraft.workflow.select:select",
    "verify": "regraft.workflow.verify:verify",
}

__all__ = [
    "Evidence",
    "Package",
    "RegraftError",
    "Severity",
    "Verdict",
    "__version__",
    "adapt",
    "bench",
    "bundle",
    "check",
    "convert",
    "doctor",
    "fetch",
    "fidelity",
    "guard",
    "inspect",
    "load",
    "load_weights",
    "open",
    "open_store",
    "portability",
    "replicate",
    "reproduce",
    "run",
    "scan",
    "select",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'regraft' has no attribute {name!r}")
    import importlib

    module, attribute = _PUBLIC[name].split(":")
    value = getattr(importlib.import_module(module), attribute)
    if name == "Evidence" or name.islower():
        _attach_html()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_PUBLIC, "__version__"})


def _attach_html() -> None:
    """Let notebooks show evidence; the record itself knows nothing of reports."""
    from regraft.record.evidence import Evidence

    def html(evidence: Evidence) -> str:
        from regraft.report.html import evidence_fragment

        return evidence_fragment(evidence)

    Evidence._repr_html_ = html  # type: ignore[attr-defined]
