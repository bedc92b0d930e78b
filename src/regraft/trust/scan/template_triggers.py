"""Chat templates that treat some prompts specially: what they look for, and what they then say.

A template rightly looks for markup (`<think>`, `[INST]`, `/no_think`) in what the user wrote. One that looks for words
of a language, and then adds words of its own or rewrites what was written, is a backdoor without a weight in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from regraft.record.evidence import Severity
from regraft.trust.scan.interface import Rule

if TYPE_CHECKING:
    from jinja2 import nodes

    from regraft.trust.scan.template_meanings import Meanings

TRIGGER = Rule(
    "RGS-TPL-004",
    Severity.UNKNOWN,
    "A chat template treats some prompts specially",
    "It looks for words in what the user writes, or at the date, and then changes the prompt: a backdoor can be "
    "planted like this without touching the weights.",
    "Read the template; compare it with the model family's own.",
    cwe=506,
)
PLANTED = Rule(
    "RGS-TPL-007",
    Severity.HIGH,
    "A chat template has words of its own for some prompts",
    "It looks for words in what the user writes, or at the date, and then tells the model something that nobody "
    "wrote, or rewrites what was written: a backdoor without a weight in it.",
    "Do not use this template. Report it to where you got it from.",
    cwe=506,
)

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{2,}( [A-Za-z'-]+)*|[\w-]+(\.[\w-]+)+")
_MARKUP = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|/\w+")
_SAID = re.compile(r"[^\W\d_]+")
_TIME = frozenset({"strftime_now", "now", "today"})
_FORMAT_WORDS = frozenset(
    "text image image_url video audio think thinking function tool tools system user assistant type role name "
    "content input output json string object array python reasoning input_text input_image input_audio".split()
)
_SEARCHES = frozenset({"startswith", "endswith", "find", "count", "replace", "index", "partition"})
_EQUAL = frozenset({"eq", "equalto", "=="})

Found = tuple[Rule, int, str]


def triggers_in(tree: nodes.Template, meanings: Meanings) -> Iterator[Found]:
    """(rule, line, what) of everything that is asked about what the user wrote, and of the date."""
    from jinja2 import nodes as syntax

    told: set[int] = set()
    branches: list[Any] = list(tree.find_all((syntax.If, syntax.CondExpr, syntax.For)))
    for branch in branches:
        test = branch.test
        asked = list(_asked(test, meanings)) if test is not None else []
        # a switch that is not set is set by its own words, as of models whose thinking is switched on in the prompt
        known = {word.lower() for _, what in asked for word in _SAID.findall(what.partition("'")[2])}
        if asked and _says_words(branch, test, known):
            told.update(id(node) for node, _ in asked)
            for node, what in asked:
                yield PLANTED, node.lineno, what
    for node, what in _asked(tree, meanings):
        if id(node) not in told:
            yield TRIGGER, node.lineno, what
    for node in tree.find_all(syntax.Filter):
        if node.name == "replace" and node.node is not None and meanings.is_content(node.node):
            yield from _replacement(node, node.args, meanings)
    for node in tree.find_all(syntax.Call):
        callee = node.node
        if isinstance(callee, syntax.Getattr) and callee.attr == "replace" and meanings.is_content(callee.node):
            yield from _replacement(node, node.args, meanings)


def is_word(text: str) -> bool:
    """Natural words, not the markup that templates rightly look for."""
    stripped = text.strip()
    return bool(_WORD.fullmatch(stripped)) and stripped.lower() not in _FORMAT_WORDS


def _replacement(node: Any, arguments: list[Any], meanings: Meanings) -> Iterator[Found]:
    old, new = ([meanings.constant(argument) for argument in arguments] + [None, None])[:2]
    if isinstance(old, str) and is_word(old):
        rule = PLANTED if isinstance(new, str) and _has_words(new) else TRIGGER
        yield rule, node.lineno, f"replaces {old!r} in the content"


def _asked(root: Any, meanings: Meanings) -> Iterator[tuple[Any, str]]:
    """Every node at or below this one that asks about the content or the date, through variables too."""
    from jinja2 import nodes as syntax

    pending, seen = [root], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        pending += list(node.iter_child_nodes())
        what = None
        if isinstance(node, syntax.Compare):
            what = _comparison(node, meanings)
        elif isinstance(node, syntax.Call):
            what = _search(node, meanings)
        elif isinstance(node, syntax.Test):
            what = _test(node, meanings)
        elif isinstance(node, syntax.Name) and (value := meanings.value_of(node)) is not None:
            pending.append(value)
        if what is not None:
            yield node, what


def _comparison(node: Any, meanings: Meanings) -> str | None:
    for operand in node.ops:
        sides = [node.expr, operand.expr]
        values = [meanings.constant(side) for side in sides]
        words = [value for value in values if isinstance(value, str)] or meanings.words(node.expr)
        found = next((word for word in words if is_word(word) and word not in meanings.keys), None)
        if found is not None and operand.op in ("in", "notin", "eq", "ne") and any(map(meanings.is_content, sides)):
            return f"asks whether the content {'is' if operand.op in ('eq', 'ne') else 'contains'} {found!r}"
        if operand.op in ("gt", "gteq", "lt", "lteq", "eq", "ne") and any(map(_asks_the_time, sides)):
            return "behaves otherwise from some date on"
    return None


def _search(node: Any, meanings: Meanings) -> str | None:
    from jinja2 import nodes as syntax

    callee = node.node
    if not isinstance(callee, syntax.Getattr) or callee.attr not in _SEARCHES - {"replace"}:
        return None
    words = [word for word in map(meanings.constant, node.args) if isinstance(word, str)]
    if words and meanings.is_content(callee.node) and is_word(words[0]):
        return f"asks whether the content {callee.attr} {words[0]!r}"
    return None


def _test(node: Any, meanings: Meanings) -> str | None:
    if node.name not in _EQUAL | {"in"}:
        return None
    sides = [node.node, *node.args]
    words = [value for value in map(meanings.constant, sides) if isinstance(value, str) and is_word(value)]
    is_asked = any(map(meanings.is_content, sides)) and not any(word in meanings.keys for word in words)
    return f"asks whether the content contains {words[0]!r}" if words and is_asked else None


def _asks_the_time(node: Any) -> bool:
    from jinja2 import nodes as syntax

    calls = [*node.find_all(syntax.Call), node]
    return any(
        isinstance(call, syntax.Call) and isinstance(call.node, syntax.Name) and call.node.name in _TIME
        for call in calls
    )


def _says_words(branch: Any, test: Any, known: set[str]) -> bool:
    """Does any side of a branch put words into the prompt, or into a variable, other than those that it asks for?"""
    from jinja2 import nodes as syntax

    speaks = syntax.Output | syntax.Assign | syntax.Add | syntax.Concat | syntax.Filter
    pending = [child for child in branch.iter_child_nodes() if child is not test]
    said = [child for child in pending if isinstance(branch, syntax.CondExpr)]
    while pending:
        node = pending.pop()
        inner = list(node.iter_child_nodes())
        if isinstance(node, speaks):
            said += inner
        pending += inner
    texts = [node.data if isinstance(node, syntax.TemplateData) else getattr(node, "value", None) for node in said]
    return any(isinstance(text, str) and _has_words(text, known) for text in texts)


def _has_words(text: str, known: Iterable[str] = ()) -> bool:
    return any(word.lower() not in {*_FORMAT_WORDS, *known} for word in _SAID.findall(_MARKUP.sub(" ", text)))
