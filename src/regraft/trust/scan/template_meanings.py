"""What the variables of a chat template stand for, as far as it can be told without rendering it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import nodes

_CONTENT_NAMES = frozenset({"content", "text", "prompt", "query"})
_MAX_DEPTH = 20


class Meanings:
    """What the variables of one template stand for: constants, lists of words, or what the user wrote.

    Attributes:
        keys: what the template looks up in the content where that is a mapping; to ask for one is no trigger.
    """

    def __init__(self, tree: nodes.Template) -> None:
        from jinja2 import nodes as syntax

        self._values: dict[str, Any] = {}
        ambiguous: set[str] = set()
        for node in tree.find_all(syntax.Assign):
            if isinstance(node.target, syntax.Name):
                if node.target.name in self._values:
                    ambiguous.add(node.target.name)
                self._values[node.target.name] = node.node
        for loop in tree.find_all(syntax.For):
            if isinstance(loop.target, syntax.Name) and isinstance(loop.iter, syntax.List | syntax.Tuple | syntax.Call):
                self._values[loop.target.name] = loop.iter  # a call: the words of `content.split()`
        self._several = ambiguous
        self.keys = {node.attr for node in tree.find_all(syntax.Getattr) if self.is_content(node.node)}
        for item in tree.find_all(syntax.Getitem):
            if isinstance(item.arg, syntax.Const) and isinstance(item.arg.value, str) and self.is_content(item.node):
                self.keys.add(item.arg.value)

    def constant(self, node: Any, depth: int = 0) -> object:
        """A constant expression's value, with what variables hold; None when it is computed at run time."""
        from jinja2 import nodes as syntax

        if depth > _MAX_DEPTH:
            return None
        if isinstance(node, syntax.Name):
            known = self._values.get(node.name)
            return None if known is None or node.name in self._several else self.constant(known, depth + 1)
        if isinstance(node, syntax.Const):
            return node.value
        if isinstance(node, syntax.Concat | syntax.Add):
            parts = node.nodes if isinstance(node, syntax.Concat) else [node.left, node.right]
            values = [self.constant(part, depth + 1) for part in parts]
            return "".join(map(str, values)) if all(value is not None for value in values) else None
        if isinstance(node, syntax.Filter) and node.node is not None:
            return self._filtered(node, depth + 1)
        return None

    def value_of(self, node: Any) -> Any:
        """The expression that a variable holds; None where it is assigned several times, or never."""
        return None if node.name in self._several else self._values.get(node.name)

    def words(self, node: Any) -> list[str]:
        """Texts of the list that a loop variable runs over."""
        from jinja2 import nodes as syntax

        values = self._values.get(node.name) if isinstance(node, syntax.Name) else None
        items = values.items if isinstance(values, syntax.List | syntax.Tuple) else ()
        return [item.value for item in items if isinstance(item, syntax.Const) and isinstance(item.value, str)]

    def is_content(self, node: Any, depth: int = 0) -> bool:
        """Is this what the user wrote, as it is, lower-cased, split, or under another name?"""
        from jinja2 import nodes as syntax

        while isinstance(node, syntax.Filter):
            node = node.node
        if isinstance(node, syntax.Call) and isinstance(node.node, syntax.Getattr):
            return self.is_content(node.node.node, depth + 1)
        if isinstance(node, syntax.Getattr):
            return node.attr in _CONTENT_NAMES
        if isinstance(node, syntax.Getitem):
            if isinstance(node.arg, syntax.Const) and node.arg.value in _CONTENT_NAMES:
                return True
            return depth < _MAX_DEPTH and isinstance(node.node, syntax.Call) and self.is_content(node.node, depth + 1)
        if not isinstance(node, syntax.Name):
            return False
        known = self._values.get(node.name)
        return node.name in _CONTENT_NAMES or (
            depth < _MAX_DEPTH and known is not None and self.is_content(known, depth + 1)
        )

    def _filtered(self, node: Any, depth: int) -> object:
        from jinja2 import nodes as syntax

        if node.name == "join" and isinstance(node.node, syntax.List | syntax.Tuple):
            values = [self.constant(item, depth) for item in node.node.items]
            return "".join(map(str, values)) if all(value is not None for value in values) else None
        value = self.constant(node.node, depth)
        arguments = [self.constant(argument, depth) for argument in node.args]
        if not isinstance(value, str) or any(argument is None for argument in arguments):
            return None
        if node.name == "reverse":
            return value[::-1]
        if node.name == "replace" and len(arguments) >= 2:
            return value.replace(str(arguments[0]), str(arguments[1]))
        if node.name == "format" and value.count("%s") == len(arguments) == value.count("%"):
            return value % tuple(arguments)
        return value.lower() if node.name == "lower" else value if node.name in ("string", "join", "trim") else None
