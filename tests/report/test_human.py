import importlib.util
from pathlib import Path

import pytest

from regraft.record.evidence import Draft, Finding, Severity, Where
from regraft.report.human import WIDTH, human_text, verdict_line
from regraft.report.markdown import markdown

_SPEC = importlib.util.spec_from_file_location("report_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)


def test_the_verdict_comes_first_in_mark_and_words(plain):
    lines = human_text(plain, color=False).splitlines()
    assert lines[0] == "✓ pass · described: BertModel, 22.7 M parameters"
    assert verdict_line(plain) == lines[0]


def test_facts_show_who_says_them_and_unknowns_are_rows(plain):
    text = human_text(plain, color=False)
    row = next(line for line in text.splitlines() if line.startswith("parameters"))
    assert "22,713,216" in row
    assert "header: model.safetensors" in row
    assert any(line.startswith("task") and "unknown" in line and "card" in line for line in text.splitlines())


def test_the_last_line_is_the_next_command(plain):
    assert human_text(plain, color=False).splitlines()[-1] == "next: regraft scan pypi://example==1.0"


def test_tables_are_at_most_100_columns(plain, hostile):
    for evidence in (plain, hostile):
        lines = human_text(evidence, color=False).splitlines()
        assert max(len(line) for line in lines if not line.startswith("next:")) <= WIDTH


@pytest.mark.parametrize("verbose", [False, True])
def test_hostile_text_is_shown_not_obeyed(hostile, verbose):
    text = human_text(hostile, verbose=verbose, color=False)
    assert _CONFTEST.is_harmless_text(text)
    assert "\\x1b" in text
    assert "[bold]x[/bold]" in text.replace("\n", "")  # rich markup stays text


def test_colour_is_only_ours(hostile):
    import re

    text = human_text(hostile, color=True)
    left = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert _CONFTEST.is_harmless_text(left)
    assert "\x1b]" not in text


def test_no_colour_when_asked_for_by_the_environment(plain, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in human_text(plain)


def test_long_tables_end_in_a_count_unless_verbose():
    draft = Draft("scan")
    for number in range(60):
        draft.find(Finding("RGS-X-001", Severity.LOW, f"finding {number}", Where(file=f"f{number}")))
    evidence = draft.finish(outcome="clean", summary="s")
    assert "20 more: --verbose or --json shows all" in human_text(evidence, color=False)
    assert "finding 59" in human_text(evidence, verbose=True, color=False)


def test_findings_come_gravest_first():
    draft = Draft("scan")
    for severity in (Severity.INFO, Severity.UNKNOWN, Severity.CRITICAL, Severity.MEDIUM):
        draft.find(Finding("RGS-X-001", severity, "m", Where()))
    text = human_text(draft.finish(outcome="dangerous", summary="s"), color=False)
    order = [text.index(f"\n{word} ") for word in ("critical", "unknown", "medium", "info")]
    assert order == sorted(order)
    assert text.startswith("✗ fail")


@pytest.mark.parametrize("form", [human_text, markdown], ids=["human", "markdown"])
def test_of_layers_the_worst_are_shown_and_of_all_else_everything(form):
    draft = Draft("verify")
    for number in range(52):
        of = {"layer": f"layer.{number}", "peak_ratio": 1454000.0}
        draft.measure("layer_rms_ratio", float(number % 13) + number / 100, "noise floors", of=of)
    draft.measure("fault_coverage", 0.875, "1", n=40)
    evidence = draft.finish(outcome="equivalent", summary="s")
    text = form(evidence).replace("\\", "").replace("&#46;", ".")
    assert "coverage" in text
    assert "42 more layers: --verbose or --json shows all" in text
    shown = [line for line in text.splitlines() if "layer_rms_ratio" in line]
    assert len(shown) == 10
    assert "layer.51" in shown[0]  # 12.51, the largest
    assert "1.454e+06" in text
    assert "layer.0" in form(evidence, verbose=True).replace("\\", "")


def test_an_operator_of_one_name_in_both_is_named_once():
    draft = Draft("verify")
    draft.find(Finding("X", Severity.LOW, "m", Where(reference="Gelu_3", candidate="Gelu_3")))
    draft.find(Finding("X", Severity.LOW, "m", Where(reference="Gelu_4", candidate="Erf_5")))
    text = human_text(draft.finish(outcome="diverges", summary="s"), color=False)
    assert "Gelu_3 for" not in text
    assert "Erf_5 for Gelu_4" in text
