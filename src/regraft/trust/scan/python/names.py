"""What names mean in Python source: imports, aliases and strings that are put together piece by piece."""

from __future__ import annotations

import ast
import base64
import binascii
import builtins
import codecs
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from regraft.errors import Damaged, LimitExceeded

MAX_SOURCE_BYTES = 4 << 20
_MAX_NODES = 400_000
_MAX_FOLDED = 1 << 20
_MAX_MEANINGS = 8
_MAX_DEPTH = 60
_MAX_STEPS = 1_000_000

Constant = str | bytes | int

_BUILTINS = frozenset(dir(builtins))
_DECODERS: dict[str, Callable[[Any], bytes]] = {
    "base64.b64decode": base64.b64decode,
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "base64.b32decode": base64.b32decode,
    "base64.b16decode": base64.b16decode,
    "base64.b85decode": base64.b85decode,
    "base64.a85decode": base64.a85decode,
    "binascii.unhexlify": binascii.unhexlify,
    "binascii.a2b_base64": binascii.a2b_base64,
    "bytes.fromhex": bytes.fromhex,
    "bytearray.fromhex": bytes.fromhex,
}
_WORDS, _WORDS_IN_BYTES = re.compile(r"\w+|[^\w\s]"), re.compile(rb"\w+|[^\w\s]")
_TEXT_METHODS = frozenset({"join", "replace", "lower", "upper", "strip", "lstrip", "rstrip", "decode", "encode"})


def parse(source: str | bytes, *, where: str) -> ast.Module:
    """The syntax tree of a Python source.

    Raises:
        Damaged: not Python (of this interpreter's version).
        LimitExceeded: too large or too deeply nested to be judged.
    """
    if len(source) > MAX_SOURCE_BYTES:
        raise LimitExceeded(f"{len(source)} bytes of source, more than {MAX_SOURCE_BYTES}", where=where)
    if len(source) > _MAX_NODES and _has_too_many_words(source):
        raise LimitExceeded(f"more than {_MAX_NODES} words and signs of source", where=where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        raise Damaged(f"not Python {error.msg} (line {error.lineno})", where=where) from error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise Damaged(f"cannot be parsed as Python: {type(error).__name__}", where=where) from error
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise LimitExceeded(f"more than {_MAX_NODES} syntax nodes", where=where)
    return tree


def _has_too_many_words(source: str | bytes) -> bool:
    """Would the tree be too large? It takes a hundred times the source, so words and signs are counted before."""
    pattern: re.Pattern[Any] = _WORDS_IN_BYTES if isinstance(source, bytes) else _WORDS
    return sum(1 for _ in islice(pattern.finditer(source), _MAX_NODES + 1)) > _MAX_NODES


class Names:
    """The meanings of names in one module, regardless of where in it they are bound.

    An attacker binds a name twice to confuse a reader, so every binding counts: a name has up to
    eight meanings, each a dotted path such as `os.system` or `builtins.eval`.

    Attributes:
        imported: dotted modules and names that the source imports → line; relative ones keep their dots.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.imported: dict[str, int] = {}
        self._meanings: dict[str, set[str]] = {}
        self._constants: dict[str, list[Constant]] = {}
        self._stars: list[str] = []
        self._defined: set[str] = set()
        self._steps = 0
        assignments: list[tuple[str, ast.expr]] = []
        for node in ast.walk(tree):
            self._learn(node, assignments)
        for _ in range(3):  # aliases of aliases of aliases
            for name, value in assignments:
                self._bind(name, value)

    def resolve(self, node: ast.expr, depth: int = 0) -> frozenset[str]:
        """Every dotted path that an expression may denote; empty when nothing is known.

        Raises:
            LimitExceeded: the module was written to make this expensive.
        """
        self._step()
        if depth > _MAX_DEPTH:
            return frozenset()
        found: Iterable[str] = ()
        if isinstance(node, ast.Name):
            found = self._resolve_name(node.id)
        elif isinstance(node, ast.Attribute):
            found = [f"{base}.{node.attr}" for base in self.resolve(node.value, depth + 1)]
        elif isinstance(node, ast.Call):
            found = self._resolve_call(node, depth + 1)
        elif isinstance(node, ast.Subscript):
            found = self._resolve_subscript(node, depth + 1)
        elif isinstance(node, ast.NamedExpr):
            found = self.resolve(node.value, depth + 1)
        elif isinstance(node, ast.IfExp):
            found = self.resolve(node.body, depth + 1) | self.resolve(node.orelse, depth + 1)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            found = [f"{type(node.value).__name__}()"]
        return frozenset(sorted(_canonical(path) for path in found)[:_MAX_MEANINGS])

    def fold(self, node: ast.expr | None, depth: int = 0) -> Constant | None:
        """The constant that an expression amounts to: literals, concatenation, slices, decoding; else None.

        Raises:
            LimitExceeded: as `resolve`.
        """
        self._step()
        if node is None or depth > _MAX_DEPTH:
            return None
        try:
            value = self._fold(node, depth + 1)
        except (
            ValueError,
            TypeError,
            OverflowError,
            LookupError,
            ArithmeticError,
            AttributeError,
            MemoryError,
            zlib.error,
        ):
            return None
        return value if isinstance(value, int) or (value is not None and len(value) <= _MAX_FOLDED) else None

    def aliases(self) -> Iterator[tuple[str, str]]:
        """(name, dotted path) of what is imported or bound to a name; (`*`, module) of what is imported whole."""
        for name, meanings in self._meanings.items():
            yield from ((name, path) for path in meanings)
        yield from (("*", module) for module in self._stars)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise LimitExceeded("the names of this source take too many steps to resolve")

    def _learn(self, node: ast.AST, assignments: list[tuple[str, ast.expr]]) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.imported.setdefault(alias.name, node.lineno)
                target = alias.name if alias.asname else alias.name.split(".")[0]
                self._meanings.setdefault(alias.asname or target, set()).add(target)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                self._learn_from(module, alias, node.lineno)
        elif isinstance(node, ast.Assign):
            for left in node.targets:
                assignments.extend(_pairs(left, node.value))
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name) and node.value:
            assignments.append((node.target.id, node.value))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._defined.add(node.name)
        elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            assignments.append((node.optional_vars.id, node.context_expr))

    def _learn_from(self, module: str, alias: ast.alias, line: int) -> None:
        if alias.name == "*":
            self.imported.setdefault(module, line)
            self._stars.append(module)
            return
        path = f"{module}{alias.name}" if module.endswith(".") else f"{module}.{alias.name}"
        self.imported.setdefault(path, line)
        self._meanings.setdefault(alias.asname or alias.name, set()).add(path)

    def _bind(self, name: str, value: ast.expr) -> None:
        constant = self.fold(value)
        if constant is not None:
            known = self._constants.setdefault(name, [])
            if constant not in known and len(known) < _MAX_MEANINGS:
                known.append(constant)
        meanings = self._meanings.setdefault(name, set())
        for path in self.resolve(value):
            if len(meanings) < _MAX_MEANINGS and len(path) < 200 and path.split(".")[0] != name:
                meanings.add(path)

    def _resolve_name(self, name: str) -> list[str]:
        known = self._meanings.get(name)
        if known:
            return list(known)
        if name in ("__builtins__", "__builtin__"):
            return ["builtins"]
        if name in self._defined:
            return [f"<local>.{name}"]
        if name in _BUILTINS:
            return [f"builtins.{name}"]
        return [f"{module}.{name}" for module in self._stars if not module.startswith(".")]

    def _resolve_call(self, node: ast.Call, depth: int) -> list[str]:
        found = []
        first = node.args[0] if node.args else None
        for path in self.resolve(node.func, depth):
            if path in ("builtins.__import__", "importlib.import_module", "importlib.__import__"):
                module = self.fold(first)
                found += [module, module.split(".")[0]] if isinstance(module, str) else ["<dynamic>"]
            elif path in ("builtins.getattr", "operator.attrgetter") and len(node.args) >= 2:
                attribute = self.fold(node.args[1])
                tail = attribute if isinstance(attribute, str) else "<dynamic>"
                found += [f"{base}.{tail}" for base in self.resolve(node.args[0], depth)]
            elif path in ("builtins.vars", "builtins.globals", "builtins.locals") or path.endswith(".__dict__"):
                found += self.resolve(first, depth) if first is not None else ["<namespace>"]
            elif path.endswith((".__getattribute__", ".get")) and isinstance(name := self.fold(first), str):
                found.append(f"{path.rpartition('.')[0]}.{name}")
            else:
                found.append(f"{path}()")
        return found

    def _resolve_subscript(self, node: ast.Subscript, depth: int) -> list[str]:
        key = self.fold(node.slice)
        if not isinstance(key, str):
            return []
        if isinstance(node.value, ast.Attribute) and node.value.attr in ("__globals__", "f_globals", "f_builtins"):
            return self._resolve_name(key) or [key]
        found = []
        for path in self.resolve(node.value, depth):
            if path in ("sys.modules", "<namespace>"):
                found += self._resolve_name(key) if path == "<namespace>" else [key]
            elif path.endswith(".__dict__") or path in self.imported or path == "builtins":
                found.append(f"{path.removesuffix('.__dict__')}.{key}")
        return found

    def _fold(self, node: ast.expr, depth: int) -> Constant | None:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str | bytes | int) else None
        if isinstance(node, ast.Name):
            known = self._constants.get(node.id, [])
            return known[0] if len(known) == 1 else None
        if isinstance(node, ast.BinOp):
            return _operate(node.op, self.fold(node.left, depth), self.fold(node.right, depth))
        if isinstance(node, ast.JoinedStr):
            parts = [self.fold(v.value if isinstance(v, ast.FormattedValue) else v, depth) for v in node.values]
            return None if None in parts else "".join(str(part) for part in parts)
        if isinstance(node, ast.Subscript):
            return self._fold_subscript(node, depth)
        return self._fold_call(node, depth) if isinstance(node, ast.Call) else None

    def _fold_subscript(self, node: ast.Subscript, depth: int) -> Constant | None:
        value = self.fold(node.value, depth)
        if not isinstance(value, str | bytes):
            return None
        if not isinstance(node.slice, ast.Slice):
            index = _fold_integer(node.slice)
            return value[index] if index is not None else None
        lower, upper, step = (
            None if part is None else _fold_integer(part)
            for part in (node.slice.lower, node.slice.upper, node.slice.step)
        )
        return value[lower:upper:step]

    def _fold_call(self, node: ast.Call, depth: int) -> Constant | None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _TEXT_METHODS:
            folded = self._fold_method(node.func, node.args, depth)
            if folded is not None:
                return folded
        first = self.fold(node.args[0], depth) if node.args else None
        for path in self.resolve(node.func, depth):
            if path == "builtins.chr" and isinstance(first, int):
                return chr(first)
            if path in ("builtins.str", "builtins.bytes") and isinstance(first, str | bytes):
                return first.decode("latin-1") if isinstance(first, bytes) and path.endswith("str") else first
            if path in ("builtins.bytes", "builtins.bytearray") and node.args:
                return self._fold_integers(node.args[0])
            if path.removeprefix("builtins.") in _DECODERS and isinstance(first, str | bytes):
                return _DECODERS[path.removeprefix("builtins.")](first)
            if path == "zlib.decompress" and isinstance(first, bytes):
                return zlib.decompressobj().decompress(first, _MAX_FOLDED)
            if path == "codecs.decode" and isinstance(first, str | bytes) and len(node.args) == 2:
                return _decode(first, self.fold(node.args[1], depth))
        return None

    def _fold_method(self, func: ast.Attribute, args: list[ast.expr], depth: int) -> Constant | None:
        base = self.fold(func.value, depth)
        if not isinstance(base, str | bytes):
            return None
        if func.attr == "join" and args:
            return self._fold_join(base, args[0], depth)
        values = [self.fold(arg, depth) for arg in args]
        if None in values:
            return None
        if func.attr == "decode":
            return _decode(base, values[0] if values else "utf-8")
        result = getattr(base, func.attr)(*values)
        return result if isinstance(result, str | bytes) else None

    def _fold_join(self, separator: str | bytes, arg: ast.expr, depth: int) -> Constant | None:
        if isinstance(separator, bytes):
            return None
        parts: list[Constant | None] = []
        if isinstance(arg, ast.List | ast.Tuple):
            parts = [self.fold(item, depth) for item in arg.elts]
        elif isinstance(arg, ast.Call) and arg.args and "builtins.map" in self.resolve(arg.func, depth):
            numbers = self._fold_integers(arg.args[-1])  # "".join(map(chr, [111, 115]))
            parts = [chr(n) for n in numbers] if numbers is not None else [None]
        elif isinstance(arg, ast.GeneratorExp | ast.ListComp):
            numbers = self._fold_integers(arg.generators[0].iter)  # "".join(chr(c) for c in [111, 115])
            parts = [chr(n) for n in numbers] if numbers is not None else [None]
        else:
            folded = self.fold(arg, depth)
            return separator.join(folded) if isinstance(folded, str) else None
        return separator.join(str(part) for part in parts) if parts and None not in parts else None

    def _fold_integers(self, node: ast.expr) -> bytes | None:
        if not isinstance(node, ast.List | ast.Tuple):
            return None
        values = [_fold_integer(item) for item in node.elts]
        return bytes(value for value in values if value is not None) if None not in values else None


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        return [pair for t, v in zip(target.elts, value.elts, strict=False) for pair in _pairs(t, v)]
    return []


def _canonical(path: str) -> str:
    for written, meant in (("posix.", "os."), ("nt.", "os."), ("__builtin__.", "builtins."), ("_io.", "io.")):
        if path.startswith(written):
            return meant + path[len(written) :]
    if path.startswith("six.moves."):
        return path.removeprefix("six.moves.")
    if path.startswith("builtins.") and path.split(".")[1] in ("str", "bytes", "type", "object"):
        return path
    return path.removesuffix(".__call__")


def _operate(operator: ast.operator, left: Constant | None, right: Constant | None) -> Constant | None:
    if left is None or right is None:
        return None
    if isinstance(operator, ast.Add):
        return left + right  # type: ignore[operator]
    if isinstance(operator, ast.Mod) and isinstance(left, str) and len(left) < 1000:
        return left % right if "*" not in left and not any(c.isdigit() for c in left) else None
    if isinstance(operator, ast.Mult) and isinstance(right, int) and isinstance(left, str) and right < 1000:
        return left * right
    if isinstance(left, int) and isinstance(right, int):
        if isinstance(operator, ast.Sub):
            return left - right
        return left ^ right if isinstance(operator, ast.BitXor) else None
    return None


def _fold_integer(node: ast.expr) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _fold_integer(node.operand)
        return None if inner is None else -inner
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else None


def _decode(value: str | bytes, encoding: Constant | None) -> Constant | None:
    if encoding in ("rot13", "rot_13") and isinstance(value, str):
        return codecs.decode(value, "rot13")
    if isinstance(value, str) or not isinstance(encoding, str):
        return None
    if encoding in ("hex", "base64", "zlib"):
        return codecs.decode(value, encoding) if encoding != "zlib" else zlib.decompressobj().decompress(value, 1 << 20)
    return value.decode(encoding) if encoding.lower().replace("-", "") in ("utf8", "ascii", "latin1") else None
