from __future__ import annotations

import json
from datetime import date

import pytest

from regraft.errors import NotFound, UsageError
from regraft.record.evidence import Verdict
from regraft.trust.scan import scan
from regraft.trust.scan.allow_file import apply_allowances, read_allow_file, write_allow_file

CODE = "import torch\n\n\nclass Model(torch.nn.Module):\n    pass\n"
ENTRY = "RGS-COD-004:modeling_x.py"


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    root.mkdir()
    (root / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling_x.Model"}}))
    (root / "modeling_x.py").write_text(CODE)
    return root


@pytest.fixture
def allow(tmp_path):
    def write(text: str):
        path = tmp_path / "allow.yaml"
        path.write_text(text)
        return path

    return write


def rules(evidence):
    return {finding.rule for finding in evidence.findings}


def test_a_reviewed_finding_passes_with_its_reason_in_the_evidence(repository, allow):
    assert scan(repository).verdict is Verdict.INCONCLUSIVE
    evidence = scan(repository, allow_file=allow(f"allow:\n- entry: {ENTRY}\n  reason: read by hand\n"))
    assert evidence.verdict is Verdict.PASS
    data = next(finding.data for finding in evidence.findings if finding.rule == "RGS-COD-004")
    assert (data["allowed"], data["reason"]) == (ENTRY, "read by hand")
    assert evidence.parameters["allow_file"][0]["reason"] == "read by hand"


def test_a_review_that_has_run_out_does_not_count_and_says_so(repository, allow):
    path = allow(f"allow:\n- entry: {ENTRY}\n  reason: read by hand\n  until: 2020-01-31\n")
    evidence = scan(repository, allow_file=path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "RGS-PKG-006" in rules(evidence)


def test_the_last_day_counts(repository, allow):
    (entry,) = read_allow_file(allow(f"allow:\n- entry: {ENTRY}\n  reason: read by hand\n  until: 2027-05-01\n"))
    findings = scan(repository).findings
    for day, left in ((date(2027, 5, 1), 0), (date(2027, 5, 2), 1)):
        judged = apply_allowances(findings, (), (entry,), today=day)
        assert sum(finding.severity.verdict is Verdict.INCONCLUSIVE for finding in judged) == left


def test_a_review_covers_the_bytes_that_were_read(repository, tmp_path):
    path = tmp_path / "written.yaml"
    assert write_allow_file(path, [scan(repository)]) == 1
    path.write_text(path.read_text().replace("TODO", "read by hand"))
    assert scan(repository, allow_file=path).verdict is Verdict.PASS
    (repository / "modeling_x.py").write_text(CODE + "\n\nx = 1\n")
    evidence = scan(repository, allow_file=path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "RGS-PKG-008" in rules(evidence)


def test_an_entry_that_covers_nothing_is_noted(repository, allow):
    evidence = scan(repository, allow_file=allow("allow:\n- entry: somelib.Net\n  reason: read\n"))
    assert "RGS-PKG-007" in rules(evidence)


def test_what_is_dangerous_cannot_be_allowed(repository, allow):
    (repository / "modeling_x.py").write_text("import os\nos.system('id')\n" + CODE)
    path = allow("allow:\n- {entry: RGS-COD-001, reason: ours}\n- {entry: 'RGS-COD-001:modeling_x.py', reason: ours}\n")
    assert scan(repository, allow_file=path).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow:\n- entry: x.y\n", "has no reason"),
        ("allow:\n- entry: x.y\n  reason: TODO\n", "has no reason"),
        ("allow:\n- reason: read\n", "without `entry`"),
        ("allow:\n- entry: x.y\n  reason: read\n  until: soon\n", "is no day"),
        ("allow:\n- entry: x.y\n  reason: read\n  sha256: 12\n", "is no digest"),
        ("allow:\n- entry: x.y\n  reason: read\n  because: of\n", "no key 'because'"),
        ("allow: x.y\n", "a list under the key"),
        ("- x.y\n", "a list under the key"),
        ("allow:\n- [x.y]\n", "each entry has the keys"),
        ("allow: [", "not an allow file"),
    ],
)
def test_a_file_that_is_none_says_where_and_why(allow, text, said):
    with pytest.raises(UsageError, match=said):
        read_allow_file(allow(text))


def test_no_file(tmp_path):
    with pytest.raises(NotFound):
        read_allow_file(tmp_path / "nothing.yaml")


def test_a_file_that_exists_is_not_written_over(repository, allow):
    path = allow("allow: []\n")
    with pytest.raises(UsageError, match="cannot be written"):
        write_allow_file(path, [scan(repository)])
    assert path.read_text() == "allow: []\n"


def test_nothing_to_review_is_an_empty_list(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    path = tmp_path / "allow.yaml"
    assert write_allow_file(path, [scan(tmp_path / "a.csv")]) == 0
    assert read_allow_file(path) == ()
