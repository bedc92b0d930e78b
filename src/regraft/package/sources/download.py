"""Files that are fetched whole: into the store, or into a temporary file that vanishes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO

from regraft.errors import DigestMismatch, LimitExceeded, StoreError
from regraft.package.reader import Reader
from regraft.package.sources.http import MAX_DOWNLOAD_BYTES, HttpClient
from regraft.package.sources.interface import SourceOptions
from regraft.package.sources.path import open_local
from regraft.progress import progress
from regraft.record.digest import Digest


class SpooledReader(Reader):
    """Content in a file without a name."""

    def __init__(self, file: IO[bytes], size: int, *, where: str) -> None:
        super().__init__(size, where=where)
        self._file = file

    def _fetch(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def close(self) -> None:
        """Let the file vanish."""
        self._file.close()


def download(
    client: HttpClient,
    url: str,
    *,
    options: SourceOptions,
    headers: Mapping[str, str] | None = None,
    declared: Mapping[str, str] | None = None,
    total: int | None = None,
    where: str,
) -> tuple[Reader, Digest]:
    """Fetch a file whole, check it, and open it: in the store where it is to be kept.

    Args:
        declared: algorithm of hashlib → hexadecimal digest that an index declares; all must hold.
        total: expected size in bytes, for progress and as a bound.
    Returns:
        a reader and the SHA-256 of the content.
    Raises:
        AccessDenied, NotFound, NetworkFailure: the server does not give it.
        DigestMismatch: it is not what was declared; nothing is kept then.
        LimitExceeded, StoreError: too large for the bounds or the disk.
    """
    pieces = _checked(client.stream(url, headers=headers), declared or {}, where)
    if options.keep and options.store is not None:
        with progress(f"fetching {where}", total=total) as advance:
            digest = options.store.put_blob(_each(pieces, lambda piece: advance(len(piece))))
        path = options.store.blob_path(digest)
        if path is None:
            raise StoreError("what was kept is gone", where=str(options.store.root))
        return open_local(path, where=where), digest
    hasher = hashlib.sha256()
    file, size = spool(_each(pieces, hasher.update), where=where, total=total)
    return SpooledReader(file, size, where=where), Digest(hasher.hexdigest())


def spool(pieces: Iterable[bytes], *, where: str, total: int | None = None) -> tuple[IO[bytes], int]:
    """Keep a stream in a temporary file without a name; returns it with its size.

    Raises:
        LimitExceeded: more than `MAX_DOWNLOAD_BYTES`. StoreError: no room for it.
    """
    if total is not None and total > MAX_DOWNLOAD_BYTES:
        raise LimitExceeded(f"the file has {total} bytes, more than {MAX_DOWNLOAD_BYTES}", where=where)
    size = 0
    file = tempfile.TemporaryFile(prefix="regraft-")  # noqa: SIM115 - the caller's
    try:
        with progress(f"fetching {where}", total=total) as advance:
            for piece in pieces:
                size += len(piece)
                if size > MAX_DOWNLOAD_BYTES:
                    raise LimitExceeded(f"the file has more than {MAX_DOWNLOAD_BYTES} bytes", where=where)
                file.write(piece)
                advance(len(piece))
            file.flush()
    except OSError as error:
        file.close()
        raise StoreError(
            f"no room for what is fetched: {error.strerror}",
            where=tempfile.gettempdir(),
            hint="free some space, or point TMPDIR at a larger disk",
        ) from error
    except BaseException:
        file.close()
        raise
    return file, size


def _checked(pieces: Iterable[bytes], declared: Mapping[str, str], where: str) -> Iterator[bytes]:
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in declared}
    for piece in pieces:
        for hasher in hashers.values():
            hasher.update(piece)
        yield piece
    for name, hasher in hashers.items():
        if hasher.hexdigest() != declared[name].lower():
            raise DigestMismatch(
                f"the {name} of the bytes is {hasher.hexdigest()[:12]}…, the index declares {declared[name][:12]}…",
                where=where,
                hint="do not use it: it was changed on the way or at the server",
            )


def _each(pieces: Iterable[bytes], tell: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        tell(piece)
        yield piece
