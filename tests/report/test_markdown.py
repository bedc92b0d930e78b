import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from regraft.report.markdown import escape, markdown

_SPEC = importlib.util.spec_from_file_location("report_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


def _rendered_tags(text):
    parser = _Tags()
    parser.feed(MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(text))
    return parser.tags


def test_heading_verdict_and_tables(plain):
    text = markdown(plain)
    assert text.startswith("## inspect example\n")
    assert "✓ pass" in text
    assert "22,713,216" in text
    assert "regraft scan pypi://example==1.0" in text


def test_nothing_in_it_is_live(hostile):
    text = markdown(hostile, verbose=True)
    assert _CONFTEST.is_harmless_text(text)
    assert not {"script", "a", "img", "style", "title"} & _rendered_tags(text)
    assert "@everyone" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)  # a mention would call people


def test_a_table_row_stays_one_row(hostile):
    rows = [line for line in markdown(hostile).splitlines() if line.startswith("| licence") or "licence" in line[:12]]
    assert rows
    columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert columns == {4}


@given(st.text(max_size=80))
def test_escaped_text_renders_to_itself(text):
    tags = _rendered_tags("x " + escape(text) + " x")
    assert tags <= {"p"}
