"""The contract of the command line that other people's builds rely on, from outside and without a network."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

CALL = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0aecho pwned\x85R."
"""os.system("echo pwned"): looked at, never run."""
WEIGHT = {"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}
FORMS = ("human", "json", "sarif", "markdown", "html")


def safetensors(payload: int) -> bytes:
    header = json.dumps(WEIGHT).encode()
    return struct.pack("<Q", len(header)) + header + bytes(payload)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """One sample of each outcome."""
    (tmp_path / "bad.pkl").write_bytes(CALL)
    (tmp_path / "renamed.json").write_bytes(CALL)
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("archive/data.pkl", CALL)
        archive.writestr("archive/version", "3")
    (tmp_path / "sound.safetensors").write_bytes(safetensors(64))
    (tmp_path / "short.safetensors").write_bytes(safetensors(10))
    (tmp_path / "odd.bin").write_bytes(bytes((i * 131 + 17) % 251 for i in range(4096)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/config.json").write_text('{"model_type": "x", "auto_map": {"AutoModel": "modeling_x.X"}}')
    (tmp_path / "repo/modeling_x.py").write_text("import os\nos.system('echo pwned')\n")
    return tmp_path


def assert_is_evidence(record: dict[str, Any], *, kind: str, verdict: str) -> None:
    assert record["schema"] == "regraft.evidence/1"
    assert record["kind"] == kind
    assert record["verdict"] == verdict
    assert record["outcome"]
    assert record["summary"]
    assert len(record["subject"][0]["sha256"]) == 64
    assert record["subject"][0]["digest"] in {"computed", "declared", "partial"}
    assert record["started"].endswith("Z")
    assert record["seconds"] >= 0
    assert record["environment"]["regraft"]
    for finding in record["findings"]:
        assert finding["rule"]
        assert finding["message"]
        assert finding["severity"] in {"critical", "high", "unknown", "medium", "low", "info"}
        assert isinstance(finding["where"], dict)
    for measurement in record["measurements"]:
        assert {"name", "value", "unit"} <= measurement.keys()


@pytest.mark.parametrize(
    ("name", "code", "verdict"),
    [
        ("bad.pkl", 1, "fail"),
        ("renamed.json", 1, "fail"),
        ("bad.pt", 1, "fail"),
        ("repo", 1, "fail"),
        ("sound.safetensors", 0, "pass"),
        ("short.safetensors", 3, "inconclusive"),
        ("odd.bin", 3, "inconclusive"),
        ("empty", 3, "inconclusive"),
    ],
)
def test_scan_ends_in_a_verdict_and_its_status(regraft: Any, place: Path, name: str, code: int, verdict: str) -> None:
    ended = regraft("scan", place / name, "--json")
    ended.assert_told(code)
    assert_is_evidence(ended.record, kind="scan", verdict=verdict)
    assert bool(ended.record["findings"]) >= (code == 1)
    assert ended.record["subject"][0]["digest"] == "computed"


def test_the_record_fits_the_published_schema(regraft: Any, place: Path) -> None:
    import jsonschema

    schema = json.loads((Path(__file__).parents[2] / "docs/reference/evidence.schema.json").read_text(encoding="utf-8"))
    for verb, name in (("scan", "repo"), ("inspect", "sound.safetensors"), ("inspect", "odd.bin"), ("scan", "empty")):
        jsonschema.validate(regraft(verb, place / name, "--json").record, schema)


def test_inspect_says_what_it_is(regraft: Any, place: Path) -> None:
    ended = regraft("inspect", place / "sound.safetensors", "--json")
    ended.assert_told(0)
    assert_is_evidence(ended.record, kind="inspect", verdict="pass")
    assert {(m["name"], m["value"]) for m in ended.record["measurements"]} >= {("parameters", 16)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "code"), [("bad.pkl", 1), ("sound.safetensors", 0), ("odd.bin", 3)])
def test_every_form_has_the_same_status_and_goes_to_stdout_alone(
    regraft: Any, place: Path, form: str, name: str, code: int
) -> None:
    ended = regraft("scan", place / name, "--format", form)
    ended.assert_told(code)
    assert ended.stderr == ""
    if form in {"json", "sarif"}:
        assert json.loads(ended.stdout)[{"json": "schema", "sarif": "version"}[form]] in {"regraft.evidence/1", "2.1.0"}
    written = regraft("scan", place / name, "--format", form, "-o", place / "out")
    written.assert_told(code)
    assert written.stdout == ""
    assert (place / "out").stat().st_size > 50
    quiet = regraft("scan", place / name, "-q")
    assert len(quiet.stdout.splitlines()) == 1
    assert {0: "pass", 1: "fail", 3: "inconclusive"}[code] in quiet.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "nowhere"),
        ("inspect", "nowhere"),
        ("fetch", "nowhere"),
        ("scan",),
        ("frobnicate",),
        ("scan", "bad.pkl", "--frobnicate"),
        ("scan", "bad.pkl", "--format", "yaml"),
        ("scan", "bad.pkl#inside"),
        ("scan", "pypi://thing==1.0", "--offline"),
        ("check", "bad.pkl", "--policy", "nowhere"),
    ],
)
def test_what_cannot_be_used_ends_in_2_with_one_message(regraft: Any, place: Path, arguments: tuple[str, ...]) -> None:
    plain = regraft(*arguments, cwd=place)
    plain.assert_told(2)
    assert plain.stdout == ""
    assert len(plain.stderr.strip()) > 10
    as_json = regraft(*arguments, "--json", cwd=place)
    as_json.assert_told(2)
    error = as_json.record["error"]
    assert set(error) == {"code", "what", "where", "hint"}
    assert error["code"]
    assert error["what"]


def test_several_subjects_are_one_line_each_and_the_worst_verdict(regraft: Any, place: Path) -> None:
    ended = regraft("scan", place / "sound.safetensors", place / "odd.bin", place / "bad.pkl", "--json")
    ended.assert_told(1)
    verdicts = [json.loads(line)["verdict"] for line in ended.stdout.splitlines()]
    assert verdicts == ["pass", "inconclusive", "fail"]
    assert regraft("scan", place / "sound.safetensors", place / "odd.bin").code == 3
    mixed = regraft("scan", place / "sound.safetensors", place / "nowhere", "--json")
    assert mixed.code == 2
    first, second = map(json.loads, mixed.stdout.splitlines())
    assert first["verdict"] == "pass"
    assert second["error"]["code"] == "not-found"


def test_what_was_printed_was_kept(regraft: Any, place: Path) -> None:
    ended = regraft("scan", place / "bad.pkl", "--json")
    kept = list((ended.store / "evidence").rglob("*.json"))
    assert len(kept) == 1
    statement = json.loads(kept[0].read_bytes())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicate"] == ended.record
    assert statement["subject"][0]["digest"]["sha256"] == ended.record["subject"][0]["sha256"]


def test_a_dry_run_leaves_nothing_behind(regraft: Any, place: Path) -> None:
    ended = regraft("scan", place / "bad.pkl", "--dry-run")
    ended.assert_told(0)
    assert not ended.store.exists()


def test_a_file_inside_follows_the_hash(regraft: Any, place: Path) -> None:
    with zipfile.ZipFile(place / "thing-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("thing/sound.safetensors", safetensors(64))
        archive.writestr("thing/bad.pkl", CALL)
    whole = place / "thing-1.0-py3-none-any.whl"
    regraft("scan", whole).assert_told(1)
    regraft("scan", f"{whole}#thing/sound.safetensors").assert_told(0)
    regraft("scan", f"{whole}#thing/bad.pkl").assert_told(1)
    regraft("scan", f"{place / 'repo'}#modeling_x.py").assert_told(1, 3)
    assert regraft("inspect", f"{whole}#thing/sound.safetensors", "--json").record["verdict"] == "pass"


def test_no_colour_and_no_bars_without_a_terminal(regraft: Any, place: Path) -> None:
    ended = regraft("scan", place / "bad.pkl", env={"FORCE_COLOR": ""})
    assert "\x1b" not in ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[0].startswith("✗ fail")
