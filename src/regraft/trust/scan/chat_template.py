"""Rules about chat templates: Jinja programs that run on every prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, RegraftError
from regraft.package.formats import Description
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.entrypoints import has_hidden_letters
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.template_meanings import Meanings
from regraft.trust.scan.template_triggers import PLANTED, TRIGGER, triggers_in

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes

ESCAPE = Rule(
    "RGS-TPL-001",
    Severity.CRITICAL,
    "A chat template reaches into Python's internals",
    "Names such as __class__ and __globals__ serve only to break out of the template language; in a program that "
    "renders templates without a sandbox this runs any code, on the first prompt.",
    "Do not use this template. Report it to where you got it from.",
    cwe=1336,
)
EVASIVE = Rule(
    "RGS-TPL-002",
    Severity.UNKNOWN,
    "A chat template computes the names that it looks up",
    "Attributes chosen by computed text are how a template hides what it reaches for.",
    "Read the template; write out the names, or replace it by the model family's own.",
    cwe=1336,
)
FOREIGN = Rule(
    "RGS-TPL-003",
    Severity.UNKNOWN,
    "A chat template pulls in other files",
    "include, import and extends make the rendering program read further templates.",
    "Use a template that stands on its own.",
    cwe=829,
)
LEADS_OUT = Rule(
    "RGS-TPL-008",
    Severity.HIGH,
    "A chat template reads a file of yours",
    "include, import or extends with an absolute path, or one that climbs: where the program that renders it loads "
    "templates from disk, the file ends up in the prompt.",
    "Do not use this template. Report it to where you got it from.",
    cwe=22,
)
UNPARSED = Rule(
    "RGS-TPL-005",
    Severity.UNKNOWN,
    "A chat template that cannot be parsed",
    "What it does cannot be told.",
    "Replace it by the model family's own.",
)
COSTLY = Rule(
    "RGS-TPL-006",
    Severity.UNKNOWN,
    "A chat template can run for very long",
    "It loops over a huge range or multiplies text: rendering one prompt may stop the server.",
    "Replace it by the model family's own.",
    cwe=834,
)

_MAX_TEMPLATE_BYTES = 1 << 20
_MAX_NODES = 100_000
_FREE_OBJECTS = frozenset({"cycler", "joiner", "lipsum", "namespace", "self", "request", "url_for"})
_INTERNALS = frozenset({"mro", "func_globals", "gi_frame", "cr_frame", "f_globals", "f_builtins", "func_code"})
_OUT = re.compile(r"^[/\\~]|(^|[/\\])\.\.([/\\]|$)|^[A-Za-z]:[\\/]|^\w+://")
_INTERNAL_TEXT = re.compile(r"__(class|globals|subclasses|builtins|import|init|mro|bases?|dict|code|getattribute)__")
_BY_ATTRIBUTE = {
    "map": 0,
    "selectattr": 0,
    "rejectattr": 0,
    "sort": 2,
    "groupby": 0,
    "unique": 1,
    "sum": 0,
    "min": 1,
    "max": 1,
}
"""Filters that look up an attribute, and the place of its name among their arguments (after `attribute=`)."""
_HUGE = 1_000_000


class ChatTemplateFamily:
    """Parses every chat template into its syntax tree and looks at what it reaches for."""

    name = "chat_template"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (ESCAPE, EVASIVE, FOREIGN, TRIGGER, UNPARSED, COSTLY, PLANTED, LEADS_OUT)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about the templates in one file: tokenizer and processor configs, .jinja files, GGUF metadata."""
        for field, template in templates_in(site):
            yield from _judge(site, field, template)
        if site.probe.suffix == ".json" and _mentions_template(site) and site.probe.json is None:
            yield UNPARSED.finding("a template in a file that cannot be parsed", site.where(field="chat_template"))

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: templates are judged one by one."""
        return iter(())


def templates_in(site: Site) -> Iterator[tuple[str, str]]:
    """(field, template) of every chat template that a file holds."""
    name = site.probe.basename
    if name.endswith((".jinja", ".jinja2", ".j2")):
        if "template" in site.probe.name.lower() and "chat" in site.probe.name.lower():
            yield "", site.probe.text or ""
    elif name.endswith(".json") and _mentions_template(site):
        yield from _in_json(site.probe.json)
    elif site.format is not None and site.format.name == "gguf":
        found = description_of(site)
        metadata: Mapping[str, str] = found.metadata if isinstance(found, Description) else {}
        for key, value in metadata.items():
            if key.startswith("tokenizer.chat_template"):
                yield key, value


def _mentions_template(site: Site) -> bool:
    tail = b""
    for chunk in site.probe.reader.chunks():
        if b"\0" in chunk:
            return False  # no text, so nothing that a tokenizer could be made from
        window = tail + chunk
        if b'"chat_template"' in window or has_hidden_letters(window):
            return True
        tail = chunk[-32:]
    return False


def _in_json(content: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(content, dict):
        return
    value = content.get("chat_template")
    if isinstance(value, str):
        yield "chat_template", value
    elif isinstance(value, list):  # several, by name
        for i, item in enumerate(value):
            if isinstance(item, dict) and isinstance(item.get("template"), str):
                yield f"chat_template[{i}].template", item["template"]
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str):
                yield f"chat_template.{key}", item


def _judge(site: Site, field: str, template: str) -> Iterator[Finding]:
    where = site.where(field=field or None)
    if len(template) > _MAX_TEMPLATE_BYTES:
        yield UNPARSED.finding(f"a template of {len(template)} characters", where)
        return
    if "{" not in template:
        return
    try:
        tree = _parse(template)
    except RegraftError as error:
        rule = ESCAPE if re.search(r"__(class|globals|subclasses|builtins|import)__", template) else UNPARSED
        yield rule.finding(error.what, where)
        return
    seen: set[tuple[str, int, str]] = set()
    for rule, line, what in _look(tree):
        if (rule.id, line, what) not in seen:
            seen.add((rule.id, line, what))
            yield rule.finding(f"line {line}: {what}", site.where(line=line, field=field or None), text=what)


def _parse(template: str) -> nodes.Template:
    import jinja2

    try:
        return _environment().parse(template)
    except jinja2.TemplateError as error:
        raise Damaged(f"not a Jinja template: {error}") from error
    except (RecursionError, ValueError, OverflowError, MemoryError) as error:
        raise Damaged(f"the template cannot be parsed: {type(error).__name__}") from error


def _environment() -> jinja2.Environment:
    """Jinja as chat templates use it: loop controls, and the `generation` block that marks the assistant's words."""
    import jinja2
    from jinja2 import nodes as syntax
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  jinja2's own convention

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return syntax.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    return jinja2.Environment(  # noqa: S701  only parsed, never rendered
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols", "jinja2.ext.do"]
    )


def _look(tree: nodes.Template) -> Iterator[tuple[Rule, int, str]]:
    from jinja2 import nodes as syntax

    meanings = Meanings(tree)
    pending: list[Any] = [tree]
    count = 0
    while pending:
        node = pending.pop()
        pending += list(node.iter_child_nodes())
        count += 1
        if count > _MAX_NODES:
            yield UNPARSED, node.lineno, f"more than {_MAX_NODES} nodes"
            return
        if isinstance(node, syntax.Getattr):
            yield from _attribute(node.attr, node)
        elif isinstance(node, syntax.Getitem):
            yield from _item(node, meanings)
        elif isinstance(node, syntax.Filter):
            yield from _filter(node, meanings)
        elif isinstance(node, syntax.Include | syntax.Import | syntax.FromImport | syntax.Extends):
            yield from _other_file(node, meanings)
        elif isinstance(node, syntax.Call):
            yield from _call(node)
        elif isinstance(node, syntax.Const) and isinstance(node.value, str) and _INTERNAL_TEXT.search(node.value):
            yield ESCAPE, node.lineno, f"holds the text {node.value[:80]!r}"
        elif isinstance(node, syntax.Mul) and any(_is_huge(side) for side in (node.left, node.right)):
            yield COSTLY, node.lineno, "multiplies by a huge number"
    yield from triggers_in(tree, meanings)


def _other_file(node: Any, meanings: Meanings) -> Iterator[tuple[Rule, int, str]]:
    path = meanings.constant(node.template)
    if isinstance(path, str) and _OUT.search(path):
        yield LEADS_OUT, node.lineno, f"{type(node).__name__.lower()} of {path[:200]!r}"
    else:
        yield FOREIGN, node.lineno, type(node).__name__.lower()


def _attribute(name: str, node: Any) -> Iterator[tuple[Rule, int, str]]:
    if (name.startswith("__") and name.endswith("__")) or name in _INTERNALS:
        yield ESCAPE, node.lineno, f"looks up {name}"


def _item(node: Any, meanings: Meanings) -> Iterator[tuple[Rule, int, str]]:
    from jinja2 import nodes as syntax

    key = meanings.constant(node.arg)
    if isinstance(key, str):
        yield from _attribute(key, node)
    elif not isinstance(node.arg, syntax.Slice) and (
        _mentions_free_object(node.node) or isinstance(node.node, syntax.Const | syntax.List | syntax.Tuple)
    ):
        yield EVASIVE, node.lineno, "looks up a computed name on an object of the template"


def _filter(node: Any, meanings: Meanings) -> Iterator[tuple[Rule, int, str]]:
    for argument in _attribute_arguments(node, meanings):
        name = meanings.constant(argument)
        if name is None:
            yield EVASIVE, node.lineno, f"|{node.name} with a computed name"
        else:
            for part in str(name).split("."):
                yield from _attribute(part, node)


def _attribute_arguments(node: Any, meanings: Meanings) -> list[Any]:
    """The arguments of a filter that name an attribute to look up."""
    named = [pair.value for pair in node.kwargs if pair.key == "attribute"]
    if node.name == "attr":
        return node.args[:1] or named
    if node.name == "map":
        first = meanings.constant(node.args[0]) if node.args else None
        return node.args[1:2] if first == "attr" else named
    if node.name not in _BY_ATTRIBUTE:
        return []
    place = _BY_ATTRIBUTE[node.name]
    return named or node.args[place : place + 1]


def _call(node: Any) -> Iterator[tuple[Rule, int, str]]:
    from jinja2 import nodes as syntax

    callee = node.node
    if isinstance(callee, syntax.Name) and callee.name == "range" and any(map(_is_huge, node.args)):
        yield COSTLY, node.lineno, "loops over a huge range"


def _mentions_free_object(node: Any) -> bool:
    from jinja2 import nodes as syntax

    while isinstance(node, syntax.Getattr | syntax.Getitem | syntax.Call):
        node = node.node
    return isinstance(node, syntax.Name) and node.name in _FREE_OBJECTS - {"namespace"}


def _is_huge(node: Any) -> bool:
    from jinja2 import nodes as syntax

    if isinstance(node, syntax.Pow):
        return True
    return isinstance(node, syntax.Const) and isinstance(node.value, int) and abs(node.value) > _HUGE
