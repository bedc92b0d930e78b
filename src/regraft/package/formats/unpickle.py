"""The restricted unpickler: loads a stream only when everything that it names is on the caller's list."""

from __future__ import annotations

import io
import pickle  # the one place where a stream is really executed
from collections.abc import Callable, Collection
from typing import Any

from regraft.errors import Damaged, LimitExceeded, RegraftError
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_values import Global, PickleStream
from regraft.package.limits import MAX_HEADER_BYTES
from regraft.package.reader import BytesReader, Reader


class RefusedGlobal(RegraftError):
    """A pickle names something that is not on the list of what may be loaded."""

    code = "pickle-refused"


def load_restricted(
    source: Reader | bytes,
    allow: Collection[tuple[str, str]],
    *,
    persistent_load: Callable[[Any], Any] | None = None,
    limit: int = MAX_HEADER_BYTES,
) -> Any:
    """Unpickle the first stream of `source` if every name in it is allowed; the machine looks at the bytes first.

    Args:
        source: the content.
        allow: (module, name) pairs, exactly as Python 3 resolves them; a dotted name must be listed as such.
        persistent_load: resolves persistent ids; without it a stream that has some is refused.
        limit: bytes that are read at most.
    Raises:
        RefusedGlobal: a name is not allowed; says which, and its offset.
        Damaged: the stream is broken, or an allowed constructor refuses its arguments.
        LimitExceeded: more than `limit` bytes.
    """
    data = source if isinstance(source, bytes) else source.read_all(limit=limit)
    where = "pickle" if isinstance(source, bytes) else source.where
    if len(data) > limit:
        raise LimitExceeded(f"{len(data)} bytes, more than the {limit} that are loaded", where=where)
    allowed = frozenset(allow)
    stream = read_pickle(BytesReader(data, where=where))
    _check(stream, allowed, where, has_ids=persistent_load is not None)
    try:
        return _Restricted(data[: stream.end_offset], allowed, where, persistent_load).load()
    except RegraftError:
        raise
    except Exception as error:
        raise Damaged(f"cannot be unpickled: {type(error).__name__}: {str(error)[:200]}", where=where) from error


def _check(stream: PickleStream, allowed: frozenset[tuple[str, str]], where: str, *, has_ids: bool) -> None:
    for name in stream.globals:
        if (name.module, name.name) not in allowed:
            raise _refusal(name, where)
    if not stream.complete:
        problem = stream.problem.what if stream.problem else "does not end"
        raise Damaged(f"{problem} at byte {stream.end_offset}", where=where)
    if stream.persistent_ids and not has_ids:
        raise Damaged(f"refers to objects outside of it at byte {stream.persistent_ids[0].offset}", where=where)
    for call in stream.calls:
        if not isinstance(call.function, Global) and call.kind != "build":
            raise RefusedGlobal(f"calls the result of a call at byte {call.offset}", where=where)
        if isinstance(call.function, Global) and call.kind in ("build", "append", "setitem"):
            raise RefusedGlobal(f"changes {call.function.path} itself at byte {call.offset}", where=where)


def _refusal(name: Global, where: str) -> RefusedGlobal:
    return RefusedGlobal(
        f"names {name.path} at byte {name.offset}, which is not allowed",
        where=where,
        hint="regraft scan shows what it would do",
    )


class _Restricted(pickle.Unpickler):
    def __init__(
        self,
        data: bytes,
        allowed: frozenset[tuple[str, str]],
        where: str,
        resolve: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(io.BytesIO(data))
        self._allowed = allowed
        self._where = where
        self._resolve = resolve

    def find_class(self, module: str, name: str) -> Any:
        """Import only what is allowed, whatever the machine said."""
        import _compat_pickle

        resolved = _compat_pickle.NAME_MAPPING.get((module, name))
        resolved = resolved or (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        if (module, name) not in self._allowed and resolved not in self._allowed:
            raise _refusal(Global(module, name, 0), self._where)
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Hand persistent ids to the caller."""
        if self._resolve is None:
            raise Damaged("refers to objects outside of it", where=self._where)
        return self._resolve(pid)
