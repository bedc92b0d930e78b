"""The picture and the table of a benchmark: no speed without its error."""

from __future__ import annotations

from regraft.record.evidence import Draft, Evidence
from regraft.report.bench import speed_figure, speed_table
from regraft.report.figures import svg
from regraft.report.human import human_text


def measured(*, errors: bool = True, other: bool = False) -> Evidence:
    """Three rows of one network; `other` for two of another one, which take something else and are not compared."""
    draft = Draft("bench", parameters={"compared_with": "net in onnxruntime"})
    for runtime, precision, latency, error in (
        ("onnxruntime", "float32", 10.0, None),
        ("openvino", "float32", 8.0, 2.5),
        ("openvino", "bfloat16", 4.0, 9000.0),
    ):
        of = {"package": "net", "runtime": runtime, "precision": precision}
        row = {**of, "batch": 1}
        draft.measure("latency_p50", latency, "ms", low=latency - 1, high=None if error else latency + 1, n=9, of=row)
        draft.measure("latency_p95", latency * 2, "ms", n=9, of=row)
        draft.measure("peak_memory", 100_000_000, "bytes", n=1, of=of)
        if errors and error is not None:
            draft.measure("error_in_floors", error, "noise floors", n=3, of={**of, "output": "y", "benign_up_to": 12.3})
            draft.measure("decision_flips", 1, "decisions", n=50, of=of)
    for runtime in ("onnxruntime", "openvino") if other else ():
        of = {"package": "another", "runtime": runtime, "precision": "float32", "batch": 1}
        draft.measure("latency_p50", 1.0, "ms", low=0.9, high=1.1, n=9, of=of)
    return draft.finish(outcome="measured", summary="three rows")


def test_the_table_sets_error_beside_speed() -> None:
    columns, rows = speed_table(measured())
    assert columns == ("model", "batch", "p50", "p95", "memory", "floors", "flips")
    assert rows[0] == ("onnxruntime float32", "1", "10 [9, 11]", "20", "100 MB", "", "")
    assert rows[2] == ("openvino bfloat16", "1", "4 [3, ?]", "8", "100 MB", "9e+03", "1 of 50")
    text = human_text(measured())
    assert "Speed, and what it costs" in text
    assert "latency_p95" not in text, "that is for --verbose"
    assert "latency_p95" in human_text(measured(), verbose=True)


def test_the_figure_has_a_dot_for_each_row_and_names_who_answers_otherwise() -> None:
    figure = speed_figure(measured())
    assert figure is not None
    assert "openvino bfloat16 answers otherwise" in figure.title
    values = figure.spec["data"]["values"]
    assert [(one["latency"], one["floors"]) for one in values] == [(10.0, 0.01), (8.0, 2.5), (4.0, 9000.0)]
    assert values[2]["high"] == 4.0, "an interval without an end ends at the value"
    drawing = svg(figure)
    assert drawing is None or "<svg" in drawing


def test_what_was_not_compared_is_not_drawn_as_if_it_were_equal() -> None:
    figure = speed_figure(measured(other=True))
    assert figure is not None
    assert [one["latency"] for one in figure.spec["data"]["values"]] == [10.0, 8.0, 4.0]
    assert "in the table alone" in figure.caption
    assert len(figure.rows) == 5


def test_nothing_compared_is_no_figure() -> None:
    assert speed_figure(measured(errors=False)) is None
    assert speed_table(Draft("scan").finish(outcome="clean", summary=""))[1] == ()
