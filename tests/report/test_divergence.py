"""The figure of a verification says what the evidence says."""

from __future__ import annotations

from regraft.record.evidence import Draft, Evidence, Finding, Severity, Verdict
from regraft.report.divergence import divergence_figure
from regraft.report.html import evidence_page


def evidence(*, kind: str = "verify", origin: bool = True) -> Evidence:
    draft = Draft(kind)
    draft.measure("rms_ratio", 300.0, "noise floors", of={"output": "y", "benign_up_to": 7.3})
    for order, (name, ratio) in enumerate([("conv", 0.0), ("norm", 250.0), ("head", 300.0)]):
        of = {"layer": name, "candidate": f"t_{name}", "operator": "aten.op", "scope": name, "order": order}
        draft.measure("layer_rms_ratio", ratio, "noise floors", of=of)
    if origin:
        data = {"cause": "epsilon", "reference_tensor": "norm"}
        draft.find(Finding("divergence.origin", Severity.HIGH, "norm: epsilon", data=data))
    return draft.finish(outcome="diverges", summary="it diverges", verdict=Verdict.FAIL)


def test_origins_are_marked_with_their_cause_and_every_tensor_is_in_the_table() -> None:
    figure = divergence_figure(evidence())
    assert figure is not None
    assert figure.title == "It parts in 1 place: epsilon"
    assert [row[1] for row in figure.rows] == ["conv", "norm", "head"]
    (mark,) = [layer for layer in figure.spec["layer"] if layer["mark"].get("filled") is False]
    assert [value["origin"] for value in mark["data"]["values"]] == ["epsilon"]
    (band,) = [layer for layer in figure.spec["layer"] if layer["mark"]["type"] == "rect"]
    assert band["data"]["values"][0]["high"] == 7.3


def test_only_verifications_with_layers_have_one() -> None:
    assert divergence_figure(evidence(kind="scan")) is None
    empty = Draft("verify").finish(outcome="equivalent", summary="", verdict=Verdict.PASS)
    assert divergence_figure(empty) is None


def test_the_page_holds_the_drawing() -> None:
    page = evidence_page(evidence())
    assert "<svg role=" in page
    assert "It parts in 1 place: epsilon" in page
    assert "epsilon" not in evidence_page(evidence(origin=False))
