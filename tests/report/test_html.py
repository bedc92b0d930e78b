import base64
import hashlib
import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from regraft.record.evidence import Draft
from regraft.report.gallery import Entry
from regraft.report.html import evidence_fragment, evidence_page, gallery_page

_SPEC = importlib.util.spec_from_file_location("report_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text.append(data)


def _pages(evidence):
    entries = [Entry("pypi://" + _CONFTEST.HOSTILE, evidence, evidence), Entry("x", None, None, _CONFTEST.HOSTILE)]
    return {
        "page": evidence_page(evidence),
        "fragment": evidence_fragment(evidence),
        "gallery": gallery_page(entries, title=_CONFTEST.HOSTILE, command=_CONFTEST.HOSTILE),
    }


@pytest.fixture(params=["page", "fragment", "gallery"])
def text(request, hostile):
    return _pages(hostile)[request.param]


def test_nothing_hostile_is_live(text):
    page = _Page(text)
    assert not {"script", "iframe", "object", "embed", "form", "img", "foreignobject"} & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert _CONFTEST.is_harmless_text(text)
    assert "<script>" not in text
    assert "{{ 7*7 }}" in "".join(page.text)  # shown, never evaluated


def test_nothing_is_fetched_from_anywhere(text):
    page = _Page(text)
    addresses = [(tag, v) for tag, name, v in page.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith("#") for _, value in addresses)
    assert not re.search(r"@import|url\s*\(\s*['\"]?https?:", text.replace("https://evil.example", ""))


def test_links_inside_the_page_lead_somewhere(hostile):
    page = _Page(_pages(hostile)["gallery"])
    targets = [value[1:] for _, name, value in page.attributes if name == "href"]
    assert targets
    assert set(targets) <= set(page.ids)


@pytest.mark.parametrize("name", ["page", "gallery"])
def test_the_content_security_policy_allows_our_style_and_nothing_else(hostile, name):
    text = _pages(hostile)[name]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r"<[a-z][^>]* style=", text)  # the policy would drop it


def test_the_page_is_usable_without_sight_or_mouse(hostile):
    page = _Page(_pages(hostile)["gallery"])
    assert ("html", "lang", "en") in page.attributes
    assert page.tags.count("h1") == 1
    assert all(("th", "scope", "col") in page.attributes for tag in page.tags if tag == "th")
    assert {"main", "header", "footer"} <= set(page.tags)


def test_the_verdict_comes_before_the_tables(plain):
    text = evidence_page(plain)
    assert text.index("✓ pass") < text.index("<table")
    assert "22,713,216" in text


def test_a_survey_of_nothing_and_of_failures_is_a_page(plain):
    assert "<h1>" in gallery_page([], title="t")
    text = gallery_page([Entry("pypi://a==1", None, None, "there is no such version")], title="t")
    assert "there is no such version" in text
    assert "inconclusive" in text
    lone = Draft("inspect").finish(outcome="empty", summary="nothing")
    assert "<h1>" in gallery_page([Entry("x", lone, None)], title="t")


def test_dark_and_printed():
    text = gallery_page([], title="t")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
