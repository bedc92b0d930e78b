import json
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest

from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Finding, Severity, Subject, Where
from regraft.report.sarif import sarif

SCHEMA = jsonschema.Draft4Validator(json.loads(Path(__file__).with_name("sarif-2.1.0.schema.json").read_text()))


def _evidence(*findings):
    draft = Draft("scan")
    draft.subject.append(Subject("model.pt", digest_bytes(b"x")))
    for finding in findings:
        draft.find(finding)
    return draft.finish(outcome="dangerous", summary="s")


def _check_essentials(log):
    """The schema of SARIF 2.1.0, and what its text requires of a log, a run, a rule, a result and a location."""
    assert [error.message for error in SCHEMA.iter_errors(log)] == []
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    for run in log["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"] == "regraft"
        ids = [rule["id"] for rule in driver["rules"]]
        assert len(ids) == len(set(ids))
        for invocation in run["invocations"]:
            assert isinstance(invocation["executionSuccessful"], bool)
        for result in run["results"]:
            assert result["message"]["text"]
            assert ids[result["ruleIndex"]] == result["ruleId"]
            assert result["level"] in ("none", "note", "warning", "error")
            if result.get("kind", "fail") != "fail":
                assert result["level"] == "none"  # 3.27.10
            for location in result.get("locations", []):
                physical = location.get("physicalLocation")
                if physical:
                    uri = physical["artifactLocation"]["uri"]
                    assert uri.isascii()
                    assert not any(c in uri for c in '<>"{}|\\^` ')
                    region = physical.get("region")
                    assert region is None or region.get("startLine", 1) >= 1


def test_rules_results_levels_and_places():
    log = json.loads(
        sarif(
            _evidence(
                Finding(
                    "RGS-PKL-001", Severity.CRITICAL, "runs os.system", Where("a b/x#1.pt", "data.pkl", 28), fix="no"
                ),
                Finding("RGS-PKL-001", Severity.CRITICAL, "again", Where("c.py", line=7)),
                Finding("RGI-CON-001", Severity.MEDIUM, "differs", Where(field="licence")),
                Finding("RGS-COD-007", Severity.INFO, "note"),
            )
        )
    )
    _check_essentials(log)
    run = log["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["RGS-PKL-001", "RGI-CON-001", "RGS-COD-007"]
    first, second, third, fourth = run["results"]
    assert first["level"] == "error"
    place = first["locations"][0]
    assert unquote(place["physicalLocation"]["artifactLocation"]["uri"]) == "a b/x#1.pt"
    assert "#" not in place["physicalLocation"]["artifactLocation"]["uri"]  # it would start a fragment
    assert "data.pkl" in place["logicalLocations"][0]["fullyQualifiedName"]
    assert second["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}
    assert third["level"] == "warning"
    assert fourth["kind"] == "informational"
    assert run["properties"]["verdict"] == "fail"


def test_hostile_text(hostile):
    text = sarif(hostile)
    _check_essentials(json.loads(text))
    assert "\x1b" not in text
    for result in json.loads(text)["runs"][0]["results"]:
        assert "\x1b" not in result["message"]["text"]
        assert "\u202e" not in result["message"]["text"]


@pytest.mark.parametrize("name", ["javascript:alert(1)", "C:/x", "//host/share", "../../etc/passwd"])
def test_a_file_name_never_becomes_an_address(name):
    log = json.loads(sarif(_evidence(Finding("RGS-X-001", Severity.LOW, "m", Where(file=name)))))
    uri = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert ":" not in uri
    assert not uri.startswith("//")


def test_a_weakness_is_a_tag_that_code_hosts_know():
    finding = Finding("RGS-PKL-001", Severity.CRITICAL, "runs", data={"cwe": "CWE-502"})
    log = json.loads(sarif(_evidence(finding)))
    _check_essentials(log)
    assert "external/cwe/cwe-502" in log["runs"][0]["tool"]["driver"]["rules"][0]["properties"]["tags"]


def test_no_findings_is_a_valid_log():
    _check_essentials(json.loads(sarif(_evidence())))
