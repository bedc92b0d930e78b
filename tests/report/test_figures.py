import sys
from xml.etree import ElementTree

import pytest

from regraft.report.figures import dots, dumbbells, stacked_bars, svg
from regraft.report.gallery import Entry
from regraft.report.html import gallery_page

HOSTILE = "</svg><script>alert(1)</script>\u202e\x1b[31m"


def _figures():
    words = {"title": "t", "caption": "c"}
    return [
        dots([(HOSTILE, 22e6, HOSTILE), ("b", 8e6, "float16")], quantity="q", group="g", labels=["x", "y"], **words),
        dumbbells([(HOSTILE, 10, 1e6)], low="read", high="size", quantity="q", labels=[("a", "b", HOSTILE)], **words),
        stacked_bars([(HOSTILE, "critical", 2)], quantity="q", group="g", order=[("critical", "var(--fail)")], **words),
    ]


@pytest.mark.parametrize("figure", _figures(), ids=["dots", "dumbbells", "bars"])
def test_a_drawing_is_clean_svg(figure):
    pytest.importorskip("vl_convert", reason="the extra [report] draws")
    drawn = svg(figure)
    root = ElementTree.fromstring(drawn)
    names = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
    assert {"svg", "g", "text"} <= names
    assert not {"script", "foreignObject", "image", "a", "style"} & names
    assert "style=" not in drawn
    assert "\x1b" not in drawn
    assert "\u202e" not in drawn


def test_values_that_a_logarithm_cannot_take_are_listed_not_drawn():
    figure = dots([("a", 0, "f"), ("b", 5, "f")], title="t", caption="c", quantity="q", group="g", labels=["0", "5"])
    assert len(figure.rows) == 2
    assert [v["row"] for v in figure.spec["data"]["values"]] == ["b"]


def test_without_the_extra_the_numbers_are_a_table_and_the_page_says_how_to_get_the_picture(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert svg(_figures()[0]) is None
    draft_page = gallery_page([Entry("pypi://example==1.0", plain, plain)], title="t")
    assert "<svg" not in draft_page


def test_the_gallery_says_how_to_get_pictures(hostile, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    text = gallery_page([Entry("x", hostile, hostile)], title="t")
    assert "regraft[report]" in text
    assert "<details open>" in text
