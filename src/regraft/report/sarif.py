"""Evidence as SARIF 2.1.0, the form that code hosts show beside the code.

Source: OASIS SARIF v2.1.0, sections 3.13 (log), 3.14 (run), 3.27 (result), 3.29 (location).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from regraft.record.evidence import Evidence, Finding, Severity, Verdict
from regraft.report.sections import place
from regraft.report.text import visible

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.UNKNOWN: "warning",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
_SECURITY = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.UNKNOWN: "5.0",
    Severity.MEDIUM: "5.0",
    Severity.LOW: "2.0",
}


def sarif(*records: Evidence) -> str:
    """A log with one run a record: a rule for each rule id, a result for each finding."""
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [_run(evidence) for evidence in records]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode() + "\n"


def _run(evidence: Evidence) -> dict[str, Any]:
    rules: dict[str, Finding] = {}
    for finding in evidence.findings:
        rules.setdefault(finding.rule, finding)
    index = {rule: number for number, rule in enumerate(rules)}
    return {
        "tool": {
            "driver": {
                "name": "regraft",
                "version": evidence.environment.regraft,
                "semanticVersion": evidence.environment.regraft,
                "informationUri": "https://pypi.org/project/regraft/",
                "rules": [_rule(finding) for finding in rules.values()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "startTimeUtc": evidence.started,
                "exitCode": evidence.verdict.exit_code,
            }
        ],
        "results": [_result(finding, index[finding.rule]) for finding in evidence.findings],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "verdict": evidence.verdict.value,
            "outcome": evidence.outcome,
            "summary": visible(evidence.summary),
            "evidence": evidence.digest,
            "isInconclusive": evidence.verdict is Verdict.INCONCLUSIVE,
        },
    }


def _rule(finding: Finding) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": finding.rule,
        "shortDescription": {"text": finding.rule},
        "defaultConfiguration": {"level": _LEVELS[finding.severity]},
        "properties": {"tags": ["security"] if finding.rule.startswith("RGS-") else ["model"]},
    }
    if isinstance(cwe := finding.data.get("cwe"), str):
        rule["properties"]["tags"].append(f"external/cwe/{cwe.lower()}")
    if finding.fix:
        rule["help"] = {"text": visible(finding.fix)}
    if finding.rule.startswith("RGS-") and finding.severity in _SECURITY:
        rule["properties"]["security-severity"] = _SECURITY[finding.severity]
    return rule


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.severity],
        "message": {"text": visible(finding.message) or finding.rule},
        "properties": {"severity": finding.severity.value, "data": finding.data},
    }
    if finding.severity is Severity.INFO:
        result["kind"] = "informational"
        result["level"] = "none"
    location = _location(finding)
    if location:
        result["locations"] = [location]
    return result


def _location(finding: Finding) -> dict[str, Any]:
    where = finding.where
    location: dict[str, Any] = {}
    if where.file:
        region: dict[str, Any] = {}
        if where.line is not None and where.line >= 1:
            region["startLine"] = where.line
        elif where.offset is not None and where.offset >= 0 and not where.member:
            region["byteOffset"] = where.offset
        location["physicalLocation"] = {"artifactLocation": {"uri": _uri(where.file)}}
        if region:
            location["physicalLocation"]["region"] = region
    if where.member or where.field or where.reference or where.candidate:
        location["logicalLocations"] = [{"fullyQualifiedName": visible(place(where))}]
    return location


def _uri(path: str) -> str:
    """A relative URI reference: no scheme, host or fragment can be read into a file's name (RFC 3986)."""
    quoted = quote(path.encode("utf-8", "surrogateescape"), safe="/!$&'()*+,;=@~-._")
    return "/%2F" + quoted[2:] if quoted.startswith("//") else quoted
