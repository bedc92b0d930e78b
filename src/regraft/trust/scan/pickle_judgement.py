"""What each call of a pickle stream would do: nothing, nobody knows, or harm."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from regraft.package.formats.pickle_values import (
    Blob,
    Call,
    Dict,
    Global,
    PersistentId,
    PickleStream,
    Set,
    Value,
    bytes_of,
)
from regraft.trust.scan.allowlist import AllowList, allow_list
from regraft.trust.scan.library_effects import effect_of_call, effect_of_class, loads_by_name
from regraft.trust.scan.pickle_dangers import CALLERS, danger_of
from regraft.trust.scan.pickle_rendering import render

_RECONSTRUCTORS = frozenset({"copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"})
_INDEX_MAKER = re.compile(r"pandas\.core\.indexes\.\w+\._new_\w*Index")
_CALLS_ITS_FIRST = {
    "_rebuild_from_type_v2": 2,
    "_rebuild_from_type": 2,
    "_reconstruct_array": 1,
    "reconstruct_device_array": 1,
}
"""Functions of torch and jax that call their first argument, and the place of what they call it with."""
_ENCODINGS = frozenset({"latin1", "latin-1", "iso-8859-1", "utf-8", "utf8", "ascii"})
_ATTRIBUTE_GETTERS = frozenset({"builtins.getattr", "operator.attrgetter"})
_ON_IMPORT = frozenset({"antigravity", "this", "idlelib", "turtledemo"})
_TYPE = "builtins.type"
_NESTED_BYTES = "torch.storage._load_from_bytes"
_CALLING = frozenset({"reduce", "inst", "obj"})
"""Opcodes that call a function, or a class with its constructor."""
_MAX_FIELD_DEPTH = 6
_MAX_VALUES = 2_000_000


class Judgement(msgspec.Struct, frozen=True):
    """One thing to say about a stream.

    Attributes:
        kind: `runs`, `handed_over`, `changes`, `hidden`, `unlisted`, `unusual`, `computed`.
        path: the name concerned.
        offset: of the opcode that names or calls it.
        message: for a human.
        effect: what a dangerous name does.
        args: arguments of the call, as text.
    """

    kind: str
    path: str
    offset: int
    message: str
    effect: str | None = None
    args: str | None = None


class Nested(msgspec.Struct, frozen=True):
    """Bytes inside of a stream that a call would unpickle in turn."""

    content: bytes | Blob
    offset: int


class Judge:
    """Judges one stream.

    Args:
        stream: what the machine found.
        inert_prefixes: beginnings of paths that the container's own loader resolves without running Python of the
            stream's choice (TorchScript, torch.package).
        names: the allow-list; default: the one that ships.
    Attributes:
        nested: filled while `judge` is consumed.
    """

    def __init__(
        self, stream: PickleStream, *, inert_prefixes: tuple[str, ...] = (), names: AllowList | None = None
    ) -> None:
        self.stream = stream
        self.nested: list[Nested] = []
        self._inert = inert_prefixes
        self._names = names or allow_list()
        self._called: set[int] = set()

    def judge(self) -> Iterator[Judgement]:
        """Everything that is not plainly safe, in stream order; calls first, then names that are not called."""
        for call in self.stream.calls:
            yield from self._event(call)
        loose = [name for name in self.stream.globals if id(name) not in self._called and not self._is_known(name)]
        dangerous = {id(name) for name in loose if danger_of(name.module, name.name) is not None}
        used = _reachable(self.stream, dangerous) if dangerous else set()
        for name in loose:
            yield self._reference(name, used=id(name) in used)

    def _is_known(self, name: Global) -> bool:
        return self._names.allows(name.module, name.name, "reference") or self._is_inert(name)

    def _is_inert(self, name: Global) -> bool:
        return bool(self._inert) and name.module is not None and f"{name.path}.".startswith(self._inert)

    def _event(self, call: Call) -> Iterator[Judgement]:
        target = call.function
        if call.kind in ("build", "append", "setitem"):
            if isinstance(target, Global):
                message = f"changes {target.path} itself for the whole process: {render(call.args)}"
                yield Judgement("changes", target.path, call.offset, message, args=render(call.args))
            elif isinstance(target, Call) and target.path == _TYPE:
                message = f"changes the class of an object for the whole process: {render(call.args)}"
                yield Judgement("changes", target.path, call.offset, message, args=render(call.args))
            elif isinstance(target, Call) and target.path == "numpy.dtype" and _hides_objects(target, call.arguments):
                message = "an element type with objects that says it has none: numpy would take raw bytes for pointers"
                yield Judgement("hidden", target.path, call.offset, message, args=render(call.args))
            elif not isinstance(target, Call):
                yield Judgement("unusual", "?", call.offset, f"{call.kind} on a value that is no container")
        elif isinstance(target, Global):
            self._called.add(id(target))
            yield from self._call(target, call.args, call.kind, call.offset)
        elif isinstance(target, Call):
            if not self._is_reviewed_method(target.function, target.arguments):
                yield self._call_of_result(target, call)
        else:
            yield Judgement("unusual", "?", call.offset, "calls a value that is no function")

    def _call(self, name: Global, args: Value, kind: str, offset: int) -> Iterator[Judgement]:
        if name.module is None or name.name is None:
            yield _computed(name, offset)
            return
        arguments = args if isinstance(args, tuple) else ()
        if name.path in _ATTRIBUTE_GETTERS:
            if not self._is_reviewed_method(name, arguments):
                yield self._attribute(name, arguments, offset)
        elif name.path == _TYPE and len(arguments) == 1:
            return
        elif self._names.allows(name.module, name.name, kind):
            yield from self._allowed_call(name, args, kind, offset)
        elif name.path in CALLERS:
            yield self._caller(name, args, kind, offset)
        elif self._is_inert(name):
            return
        elif (effect := self._effect(name, kind)) is not None:
            yield _runs(name.path, effect, args, offset)
        elif self._is_known(name):
            seen = ", ".join(sorted(self._names.uses_of(name.module, name.name)))
            message = f"uses {name.path} by {kind}, which its library's own pickles do not do (they: {seen})"
            yield Judgement("unusual", name.path, offset, message, args=render(args))
        elif kind in _CALLING and loads_by_name(name.name, arguments):
            yield _runs(name.path, "opens what the stream names", args, offset)
        elif kind in _CALLING and (effect := effect_of_class(name.name, arguments)) is not None:
            yield _runs(name.path, effect, args, offset)
        else:
            message = f"calls {name.path}, which nobody has reviewed: look at what it does when created or restored"
            yield Judgement("unlisted", name.path, offset, message, args=render(args))

    def _effect(self, name: Global, kind: str) -> str | None:
        """What using a name in this way does; a known name is harmless in the ways that are known, not called."""
        effect = None if self._is_known(name) and kind not in _CALLING else danger_of(name.module, name.name)
        if effect is None and kind in _CALLING:
            effect = effect_of_call(name.module, name.name)
        return effect

    def _allowed_call(self, name: Global, args: Value, kind: str, offset: int) -> Iterator[Judgement]:
        """An allowed constructor: are its arguments those that its library writes?"""
        arguments = args if isinstance(args, tuple) else ()
        path = name.path
        if not isinstance(args, tuple):
            yield Judgement("unusual", path, offset, f"calls {path} with something else than a tuple of arguments")
        elif kind in ("inst", "obj") and args and kind not in self._names.uses_of(name.module, name.name):
            message = f"calls the constructor of {path}, which ordinary pickles only create without it"
            yield Judgement("unusual", path, offset, message, args=render(args))
        elif path in _RECONSTRUCTORS:
            yield from self._reconstructed(name, arguments, offset)
        elif (place := _CALLS_ITS_FIRST.get(path.rpartition(".")[2])) is not None:
            function = arguments[0] if arguments else None
            if isinstance(function, Global) and len(arguments) > place:
                self._called.add(id(function))
                yield from self._call(function, arguments[place], "reduce", offset)
            else:
                yield Judgement("unusual", path, offset, f"{path} without a function to call", args=render(args))
        elif _INDEX_MAKER.fullmatch(path):
            made = arguments[0] if arguments else None
            if isinstance(made, Global) and self._is_known(made) and made.path.startswith("pandas."):
                self._called.add(id(made))
            else:
                message = f"{path} builds another class than an index: {render(made)}"
                yield Judgement("unusual", path, offset, message, args=render(args))
        elif path == _NESTED_BYTES:
            content = bytes_of(arguments[0]) if arguments else None
            if content is None and arguments and isinstance(arguments[0], Blob) and arguments[0].kind == "bytes":
                self.nested.append(Nested(arguments[0], offset))
            elif content is not None:
                self.nested.append(Nested(content, offset))
            else:
                yield Judgement("unusual", path, offset, "unpickles bytes that the stream computes")
        elif path == "_codecs.encode" and not _is_plain_encoding(arguments):
            yield Judgement("unusual", path, offset, "encodes text with an unusual codec", args=render(args))
        elif path in ("builtins.bytes", "builtins.bytearray") and _is_huge(arguments[:1]):
            yield Judgement("unusual", path, offset, f"{path} asks for a large block of memory")

    def _reconstructed(self, name: Global, arguments: tuple[Value, ...], offset: int) -> Iterator[Judgement]:
        made = arguments[0] if arguments else None
        if not isinstance(made, Global):
            yield Judgement("unusual", name.path, offset, f"{name.path} of a class that the stream computes")
            return
        base = arguments[1] if len(arguments) > 1 else None
        if name.path == "copyreg._reconstructor" and not _is_builtin_base(base):
            message = f"{name.path} runs the constructor of another class than Python's own: {render(base)}"
            yield Judgement("unusual", name.path, offset, message, args=render(arguments))
        self._called.add(id(made))
        yield from self._call(made, arguments[1:], "newobj", offset)

    def _attribute(self, name: Global, arguments: tuple[Value, ...], offset: int) -> Judgement:
        """`getattr` written by a pickle: an enumeration member or bound method, or a way to any function."""
        owner = arguments[0] if arguments else None
        attribute = arguments[-1] if arguments and isinstance(arguments[-1], str) else None
        if name.path == "builtins.getattr" and isinstance(owner, Global) and attribute is not None and owner.name:
            effect = danger_of(owner.module, f"{owner.name}.{attribute}") or danger_of(owner.path, attribute)
            if effect is None and attribute.startswith("_"):
                effect = "reaches into the interpreter by an attribute"
            path = f"{owner.path}.{attribute}"
            if effect is not None:
                return _runs(path, effect, arguments, offset)
            return Judgement("unlisted", path, offset, f"takes the attribute {attribute} of {owner.path}")
        if (
            attribute is None
            or any(part.startswith("_") for part in attribute.split("."))
            or name.path != ("builtins.getattr")
        ):
            return _runs(name.path, "reads or writes attributes by name", arguments, offset)
        return Judgement("unlisted", name.path, offset, f"takes the attribute {attribute[:80]} of an object it built")

    def _is_reviewed_method(self, getter: Value, arguments: tuple[Value, ...]) -> bool:
        """Is this `getattr(Class, "method")` of a class method that is on the list, as its library pickles it?"""
        if not isinstance(getter, Global) or getter.path != "builtins.getattr" or len(arguments) != 2:
            return False
        owner, attribute = arguments
        if not isinstance(owner, Global) or not isinstance(attribute, str):
            return False
        self._called.add(id(owner))
        return self._names.allows(owner.module, f"{owner.name}.{attribute}", "reduce")

    def _caller(self, name: Global, args: Value, kind: str, offset: int) -> Judgement:
        for inner in _globals_in(args):
            self._called.add(id(inner))
            effect = None if self._is_known(inner) else self._effect(inner, kind)
            if effect is not None:
                return _runs(inner.path, effect, args, offset, through=name.path)
        inner_names = ", ".join(inner.path for inner in _globals_in(args)) or "its arguments"
        message = f"{name.path} calls {inner_names[:200]}, now or when it is used"
        return Judgement("unlisted", name.path, offset, message, args=render(args))

    def _call_of_result(self, target: Call, call: Call) -> Judgement:
        inner = target.path
        module, _, attribute = inner.rpartition(".")
        builds_code = module.startswith(("cloudpickle", "dill", "types")) or inner in CALLERS
        if builds_code or (isinstance(target.function, Global) and danger_of(module, attribute)):
            return _runs(inner, "runs a function that the stream itself obtained", call.args, call.offset)
        return Judgement("unusual", inner, call.offset, f"calls what {inner} returned", args=render(call.args))

    def _reference(self, name: Global, *, used: bool) -> Judgement:
        if name.module is None or name.name is None:
            return _computed(name, name.offset)
        effect = danger_of(name.module, name.name)
        if name.module.split(".")[0] in _ON_IMPORT:
            return _runs(name.path, "acts as soon as it is imported", (), name.offset)
        if effect is not None and used:
            message = f"hands over {name.path} ({effect}), which can be called later"
            return Judgement("handed_over", name.path, name.offset, message, effect)
        message = f"names {name.path}, which nobody has reviewed; importing it runs its module"
        return Judgement("unlisted", name.path, name.offset, message, effect)


def _runs(path: str, effect: str, args: Value, offset: int, *, through: str | None = None) -> Judgement:
    text = render(args)
    by = f" through {through}" if through else ""
    return Judgement("runs", path, offset, f"loading {effect}: {path}({text}){by}", effect, text)


def _computed(name: Global, offset: int) -> Judgement:
    if name.extension is None:
        message = "imports a name that the stream computes, which no pickler writes: it is hidden on purpose"
        return Judgement("hidden", name.path, offset, message)
    return Judgement("computed", name.path, offset, f"imports {name.path}: only the loading process knows what that is")


def _is_huge(arguments: tuple[Value, ...]) -> bool:
    return any(isinstance(size, int) and size > 1 << 20 for size in arguments)


def _hides_objects(dtype: Call, states: tuple[Value, ...]) -> bool:
    """Has a numpy.dtype fields or elements that are Python objects, while the flags in its new state deny it?"""
    state = states[0] if states else None
    if not isinstance(state, tuple):
        return False
    flags = state[7] if len(state) > 7 else 0
    names_objects = "O" in str(dtype.arguments[:1]) or any(map(_holds_objects, _flattened(state[2:5])))
    return names_objects and not (isinstance(flags, int) and flags & 1)


def _holds_objects(part: Value) -> bool:
    if not isinstance(part, Call) or part.path != "numpy.dtype":
        return False
    state = part.state
    flags = state[7] if isinstance(state, tuple) and len(state) > 7 else 0
    return "O" in str(part.arguments[:1]) or (isinstance(flags, int) and flags & 1 == 1)


def _flattened(value: Value) -> Iterator[Value]:
    """The values in nested tuples and dicts, at most a few levels deep as numpy writes them."""
    pending: list[tuple[Value, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, (tuple, Dict)) and depth < _MAX_FIELD_DEPTH:
            pending.extend((inner, depth + 1) for inner in _inside(item))
        else:
            yield item


def _is_builtin_base(base: Value) -> bool:
    """Is this a class written in C, as protocols 0 and 1 name? `_reconstructor` calls its __new__ and __init__."""
    return isinstance(base, Global) and (base.module == "builtins" or base.path == "numpy.ndarray")


def _is_plain_encoding(arguments: tuple[Value, ...]) -> bool:
    return len(arguments) == 2 and isinstance(arguments[1], str) and arguments[1].lower() in _ENCODINGS


def _inside(value: Value) -> Iterator[Value]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, Set):
        yield from value.items
    elif isinstance(value, Dict):
        for pair in value.pairs:
            yield from pair
    elif isinstance(value, Call):
        yield from (value.function, value.args, value.kwargs, *value.states, *value.items)
        for pair in value.pairs:
            yield from pair
    elif isinstance(value, PersistentId):
        yield value.id


def _globals_in(value: Value) -> Iterator[Global]:
    """Every global in a value, each container entered once."""
    pending, seen = [value], set[int]()
    while pending and len(seen) < _MAX_VALUES:
        item = pending.pop()
        if isinstance(item, Global):
            yield item
        elif isinstance(item, (list, tuple, Set, Dict, Call, PersistentId)) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(_inside(item))


def _reachable(stream: PickleStream, wanted: set[int]) -> set[int]:
    """Which of these globals the stream returns or gives to a call, rather than dropping them."""
    everything = (stream.root, *stream.calls)
    return {id(name) for name in _globals_in(everything) if id(name) in wanted}
