"""Policy files: YAML into a `Policy`, with the line and the nearest known word in every complaint."""

from __future__ import annotations

import re
from pathlib import Path

from regraft.errors import PolicyError
from regraft.record.bounded_yaml import Place
from regraft.record.digest import Digest, digest_bytes
from regraft.record.document import Document, finite, kind_of, nearest, parse_document, read_document, shown
from regraft.record.evidence import JSON, DigestKind, Severity, Verdict
from regraft.record.passport import KINDS
from regraft.record.policy import OF_BEHAVIOUR, About, Demand, Policy
from regraft.record.threshold import OPERATORS, Threshold
from regraft.record.units import UNITS

SCHEMA = "regraft.policy/1"
_THRESHOLD = re.compile(r"\s*([\w.@/-]+?)\s*(<=|>=|<|>)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(\S*)\s*", re.ASCII)


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: it cannot be understood; `where` is file:line.
        NotFound, AccessDenied: it cannot be read.
    """
    return parse_policy(read_document(path, what="policy"), name=str(path))


def parse_policy(data: bytes, *, name: str = "policy") -> Policy:
    """Parse the bytes of a policy file.

        schema: regraft.policy/1
        name: production
        evidence:
          scan: {verdict: pass, max_severity: medium, max_age: 30 d}
          adapt: {about: lineage, measurements: [accuracy_gain.low > 0 points]}
          bench:
            measurements:
              - latency_p95.high <= 20 ms
              - {that: accuracy >= 0.7, of: {runtime: onnxruntime}}
        licences: [MIT, Apache-2.0]

    Args:
        name: of the file, for messages.
    Raises:
        PolicyError: unknown key, wrong type, unknown unit, nothing demanded.
    """
    document = parse_document(data, name=name, error=PolicyError, example=_EXAMPLE)
    return policy_from_document(document, digest=digest_bytes(data), name=Path(name).stem)


def policy_from_document(document: Document, *, digest: Digest, name: str) -> Policy:
    """The policy that a document is, for instance a part of a plan.

    Args:
        digest: of what stands for the policy in evidence.
        name: when it does not name itself.
    Raises:
        PolicyError: see `parse_policy`.
    """
    document = document.judged_by(PolicyError)
    top = document.mapping(document.value, (), ("schema", "name", "evidence", "licences"))
    if top.get("schema") != SCHEMA:
        document.refuse(f"the schema is not {SCHEMA!r}", ("schema",), hint=f"schema: {SCHEMA}")
    demands = _demands(document, top.get("evidence", {}))
    licences = document.texts(top["licences"], ("licences",), hint="[MIT, Apache-2.0]") if "licences" in top else None
    if not demands and licences is None:
        document.refuse("the policy demands nothing", (), hint=_EXAMPLE)
    return Policy(document.text(top["name"], ("name",)) if "name" in top else name, digest, demands, licences)


def _demands(document: Document, value: JSON) -> tuple[Demand, ...]:
    place: Place = ("evidence",)
    kinds = document.mapping(value, place, KINDS)
    return tuple(_demand(document, kind, inner, (*place, kind)) for kind, inner in kinds.items())


def _demand(document: Document, kind: str, value: JSON, place: Place) -> Demand:
    keys = ("about", "verdict", "digest", "max_severity", "max_age", "measurements")
    fields = document.mapping({} if value is None else value, place, keys)
    demand = Demand(kind, line=document.line(place))
    verdict = fields.get("verdict", "pass")
    several = verdict if isinstance(verdict, list) and verdict else [verdict]
    measurements = fields.get("measurements", [])
    if not isinstance(measurements, list):
        document.refuse(f"measurements is {kind_of(measurements)}, not a list", (*place, "measurements"))
    return Demand(
        kind,
        verdicts=tuple(document.choice(word, (*place, "verdict"), Verdict) for word in several),
        digest=document.choice(fields.get("digest", demand.digest.value), (*place, "digest"), DigestKind),
        max_severity=document.choice(fields["max_severity"], (*place, "max_severity"), Severity)
        if "max_severity" in fields
        else None,
        max_age_s=document.amount(fields["max_age"], (*place, "max_age"), unit="s", what="a duration", example="30 d")
        if "max_age" in fields
        else None,
        measurements=tuple(
            _threshold(document, item, (*place, "measurements", index)) for index, item in enumerate(measurements)
        ),
        line=demand.line,
        about=_about(document, kind, fields, place),
    )


def _about(document: Document, kind: str, fields: dict[str, JSON], place: Place) -> About:
    """What the evidence must be about; what was found out about bytes holds for no others."""
    if "about" not in fields:
        return About.PACKAGE
    about = document.choice(fields["about"], (*place, "about"), About)
    if about is About.LINEAGE and kind not in OF_BEHAVIOUR:
        hint = f"of behaviour: {', '.join(OF_BEHAVIOUR)}"
        document.refuse(f"what {kind} finds out about one package holds for no other", (*place, "about"), hint=hint)
    return about


def _threshold(document: Document, value: JSON, place: Place) -> Threshold:
    of: dict[str, JSON] = {}
    if isinstance(value, dict):
        fields = document.mapping(value, place, ("that", "of"))
        inner = fields.get("of", {})
        if not isinstance(inner, dict):
            document.refuse(f"of is {kind_of(inner)}, not a mapping", (*place, "of"), hint="of: {runtime: onnxruntime}")
        of, value = inner, fields.get("that")
    match = _THRESHOLD.fullmatch(value) if isinstance(value, str) else None
    number = finite(match[3]) if match else None
    if match is None or number is None or not isinstance(value, str):
        document.refuse(f"{shown(value)} is not a comparison", place, hint="for example: latency_p95.high <= 20 ms")
    name, bound = _split_bound(match[1])
    if bound not in {None, "low", "high"}:
        hint = f"{name}.low, {name}.high, or {name} alone for the whole interval"
        document.refuse(f"{match[1]}: a point is not compared, an interval is", place, hint=hint)
    if match[4] not in UNITS:
        document.refuse(f"unknown unit {match[4]!r}", place, hint=nearest(match[4], [u for u in UNITS if u]))
    assert match[2] in OPERATORS
    return Threshold(name, bound, match[2], number, match[4], of, value.strip(), document.line(place))


def _split_bound(name: str) -> tuple[str, str | None]:
    stem, dot, last = name.rpartition(".")
    return (stem, last) if dot and last in {"low", "high", "value"} else (name, None)


_EXAMPLE = f"for example:  schema: {SCHEMA}  /  evidence: {{scan: {{verdict: pass}}}}"
