"""Evidence as HTML: one self-contained page, no script, nothing fetched, everything from a package escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.record.evidence import Evidence
from regraft.report.bench import speed_figure
from regraft.report.divergence import divergence_figure
from regraft.report.figures import INSTALL, Figure, svg
from regraft.report.gallery import Entry, Gallery, gallery
from regraft.report.quantity import seconds_text
from regraft.report.sections import MARKS, Section, next_command, sections
from regraft.report.text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2
    from markupsafe import Markup

_SHORT = 22
_TEMPLATES = Path(__file__).parent / "templates"


class Drawn(msgspec.Struct, frozen=True):
    """A figure and its SVG, None where it could not be drawn."""

    figure: Figure
    svg: Any


def evidence_page(evidence: Evidence) -> str:
    """One record as a whole page that opens from disk and prints."""
    name = evidence.subject[0].name if evidence.subject else evidence.kind
    return page_of("evidence_page.html", f"{evidence.kind}: {name}", **_evidence_values(evidence, verbose=True))


def evidence_fragment(evidence: Evidence) -> str:
    """One record as a fragment for notebooks, with its own style."""
    template = _environment().get_template("evidence.html")
    body = template.render(**_evidence_values(evidence, verbose=False))
    return f'<style>{_css("style.css")}</style><div class="rg">{body}</div>'


def gallery_page(entries: Sequence[Entry], *, title: str, command: str = "") -> str:
    """Many packages on one page: verdicts first, then an overview, figures, and a card for each.

    Args:
        entries: what is known about each package, in the order in which they are shown.
        command: the command that makes this page, shown at its end.
    """
    shown: Gallery = gallery(entries)
    return page_of(
        "gallery.html",
        title,
        gallery=shown,
        figures=[drawn(figure) for figure in shown.figures],
        command=command,
    )


def _evidence_values(evidence: Evidence, *, verbose: bool) -> dict[str, Any]:
    figure = divergence_figure(evidence) or speed_figure(evidence)
    return {
        "evidence": evidence,
        "figures": [drawn(figure)] if figure is not None else [],
        "name": evidence.subject[0].name if evidence.subject else evidence.kind,
        "sections": sections(evidence, verbose=verbose),
        "command": next_command(evidence),
        "seconds": seconds_text(evidence.seconds),
    }


def page_of(template: str, title: str, **values: Any) -> str:
    """A whole page from a template, with the style in it and a policy that allows nothing else."""
    from markupsafe import Markup

    from regraft.version import __version__

    style = _css("style.css") + _css("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            regraft=__version__,
            style=Markup(style),  # noqa: S704  our own file
            style_hash=Markup(f"sha256-{digest}"),  # noqa: S704  base64
            **values,
        )
    )


def drawn(figure: Figure) -> Drawn:
    """A figure with its drawing, for a template."""
    from markupsafe import Markup

    drawing = svg(figure)
    return Drawn(figure, None if drawing is None else _labelled(Markup(drawing), figure.title))  # noqa: S704


def _labelled(drawing: Markup, title: str) -> Markup:
    """Give the drawing a role and a name for those who listen to the page."""
    from markupsafe import Markup, escape

    return Markup(str(drawing).replace("<svg ", f'<svg role="img" aria-label="{escape(visible(title))}" ', 1))  # noqa: S704


@functools.cache
def _css(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    """Jinja that escapes everything twice over: control and direction marks by `visible`, then HTML."""
    import jinja2
    from markupsafe import Markup

    def harmless(value: object) -> object:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(marks=MARKS, used_columns=_used_columns, short_columns=_short_columns, install=INSTALL)
    return environment


def _used_columns(section: Section) -> list[int]:
    return [i for i in range(len(section.columns)) if any(row[i] for row in section.rows)]


def _short_columns(section: Section) -> list[int]:
    """Columns of short words, which are not broken over lines."""
    return [i for i in _used_columns(section) if max(len(row[i]) for row in section.rows) <= _SHORT]
