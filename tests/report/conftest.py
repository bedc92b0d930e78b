"""Evidence full of hostile text, and what must never reach a reader from it."""

from __future__ import annotations

import pytest

from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject, Where

SCRIPT = "<script>alert(1)</script>"
ANSI = "\x1b[31mred\x1b]0;title\x07"
RTL = "invoice\u202efdp.exe"
LINES = "one\ntwo\r\x00"
MARKUP = "[bold]x[/bold] [link=https://evil.example]y[/link] ![i](https://evil.example/i.png) `code` | cell"
HOSTILE = f"{SCRIPT} {ANSI} {RTL} {LINES} {MARKUP} </style></title>\"'> {{{{ 7*7 }}}} @everyone"


@pytest.fixture
def hostile() -> Evidence:
    draft = Draft("scan", parameters={"reference": f"./{HOSTILE}"})
    draft.subject.append(Subject(HOSTILE, digest_bytes(b"x")))
    where = Where(file=HOSTILE, member=HOSTILE, field=HOSTILE)
    draft.find(Finding("RGS-PKL-001", Severity.CRITICAL, HOSTILE, where, {"call": HOSTILE}, fix=HOSTILE))
    claim = {"source": "card", "file": HOSTILE, "field": HOSTILE}
    fact = {"field": "licence", "value": HOSTILE, "text": HOSTILE, "provenance": [claim]}
    draft.find(Finding("RGI-FACT-001", Severity.INFO, HOSTILE, where, fact))
    draft.find(Finding("RGI-FACT-002", Severity.INFO, "x", Where(), {"field": HOSTILE, "could_say": HOSTILE}))
    model = {"name": HOSTILE, "formats": [HOSTILE], "dtypes": [HOSTILE], "parameters": 5, "architecture": HOSTILE}
    model["per_file"] = [{"path": HOSTILE, "parameters": 5, "dtypes": [HOSTILE]}]
    for _ in range(2):
        draft.find(Finding("RGI-MODEL-001", Severity.INFO, HOSTILE, where, model))
    file = {"path": HOSTILE, "size_bytes": 5, "format": HOSTILE, "role": HOSTILE, "dtypes": [HOSTILE]}
    draft.find(Finding("RGI-FILE-001", Severity.INFO, HOSTILE, where, file))
    draft.find(Finding("RGI-CON-001", Severity.MEDIUM, HOSTILE, where))
    draft.measure("size_bytes", 100, "bytes")
    draft.measure("bytes_read", 10, "bytes")
    draft.measure("parameters", 5, "parameters", of={"model": HOSTILE})
    return draft.finish(outcome="dangerous", summary=HOSTILE)


@pytest.fixture
def plain() -> Evidence:
    draft = Draft("inspect", parameters={"reference": "pypi://example==1.0"})
    draft.subject.append(Subject("example", digest_bytes(b"x")))
    provenance = [{"source": "header", "file": "a/model.safetensors", "field": None}]
    known = {"field": "parameters", "value": 22713216, "text": "22,713,216", "provenance": provenance}
    draft.find(Finding("RGI-FACT-001", Severity.INFO, "parameters: 22,713,216", Where(), known))
    draft.find(Finding("RGI-FACT-002", Severity.INFO, "x", Where(), {"field": "task", "could_say": "card"}))
    draft.measure("size_bytes", 90_868_376, "bytes")
    return draft.finish(outcome="described", summary="BertModel, 22.7 M parameters")


def is_harmless_text(text: str) -> bool:
    """No control character but the newline, no direction mark."""
    return not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066\u200f" for c in text)
