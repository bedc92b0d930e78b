"""Verbs that do next to nothing and write down that they were called; each line of the journal is one call."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from regraft.package.package import open_package
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject

JOURNAL = "REGRAFT_TEST_JOURNAL"


def note(what: str) -> None:
    """Append a line, whole, to the journal; wait as long as the test wants steps to take."""
    descriptor = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{what}\n".encode())
    os.close(descriptor)
    time.sleep(float(os.environ.get("REGRAFT_TEST_NAP", "0")))


def subjects(ref: str) -> list[Subject]:
    with open_package(ref) as package:
        return package.subjects(package.manifest())


def select(candidates: list[dict[str, Any]], seed: int, **_: Any) -> Evidence:
    """Chooses the first name of the alphabet."""
    note("select " + " ".join(candidate["name"] for candidate in candidates))
    draft = Draft("select", parameters={"seed": seed})
    draft.subject += [subjects(candidate["ref"])[0] for candidate in candidates]
    best = min(candidate["name"] for candidate in candidates)
    draft.find(Finding("RGT-SEL-001", Severity.INFO, f"{best} is best", data={"chosen": best}))
    return draft.finish(outcome="ranked", summary=f"{best} is best of {len(candidates)}")


def undecided_select(**_: Any) -> Evidence:
    draft = Draft("select")
    draft.find(Finding("RGT-SEL-002", Severity.HIGH, "none fits the device: the closest misses by 4 ms"))
    return draft.finish(outcome="none", summary="none fits the device: the closest misses by 4 ms")


def adapt(ref: str, seed: int, out: Path, **_: Any) -> Evidence:
    note(f"adapt {Path(ref).name}")
    out.mkdir()
    (out / "weights.txt").write_text(f"{subjects(ref)[0].sha256} {seed}")
    draft = Draft("adapt")
    draft.subject += subjects(str(out))
    draft.materials += subjects(ref)[:1]
    return draft.finish(outcome="adapted", summary="has a head now")


def convert(ref: str, to: str, out: Path, **_: Any) -> Evidence:
    note(f"convert {to}")
    out.write_text((Path(ref) / "weights.txt").read_text() + f" as {to}")
    draft = Draft("convert", parameters={"to": to})
    draft.subject += subjects(str(out))
    draft.materials += subjects(ref)[:1]
    return draft.finish(outcome="converted", summary=f"is {to} now")


def lying_convert(ref: str, to: str, out: Path, **_: Any) -> Evidence:
    """Says that it made another package than it did."""
    out.write_text("something else")
    draft = Draft("convert")
    draft.subject.append(Subject("x", digest_bytes(b"what it says")))
    return draft.finish(outcome="converted", summary="is what it says")


def crashing_convert(ref: str, to: str, out: Path, **_: Any) -> Evidence:
    if to == "openvino":
        os.abort()
    return convert(ref, to, out)


def verify(reference: str, candidate: str, **_: Any) -> Evidence:
    note(f"verify {Path(candidate).name}")
    draft = Draft("verify")
    draft.subject += subjects(candidate)
    draft.materials += subjects(reference)[:1]
    return draft.finish(outcome="equivalent", summary="within the floor")


def bench(refs: list[str], **_: Any) -> list[Evidence]:
    note("bench " + " ".join(Path(ref).name for ref in refs))
    found = []
    for ref in [None, *refs]:
        draft = Draft("bench")
        draft.subject += subjects(ref) if ref else [Subject("all", digest_bytes(b"all"))]
        draft.measure("latency_p95", 5.0, "ms", low=4.0, high=6.0, n=200)
        found.append(draft.finish(outcome="measured", summary="5 ms"))
    return found


def cell(name: str, parents: list[Evidence] | None = None, out: Path | None = None) -> Evidence:
    """One node of a graph of steps."""
    note(name)
    draft = Draft("inspect", parameters={"name": name})
    if out is not None:
        out.write_text(name + "".join(parent.summary for parent in parents or []))
        draft.subject += subjects(str(out))
    else:
        draft.subject.append(Subject(name, digest_bytes(name.encode())))
    return draft.finish(outcome="seen", summary=name)
