"""A file behind an address, read by ranges: what is not asked for is not transferred."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import IO

from regraft.errors import AccessDenied, LimitExceeded, NetworkFailure, NotFound
from regraft.package.reader import Reader
from regraft.package.sources.address import origin_of, printable
from regraft.package.sources.download import spool
from regraft.package.sources.http import (
    MAX_DOWNLOAD_BYTES,
    Answer,
    HttpClient,
    StatusFailure,
    TransientFailure,
    validator,
)

BLOCK_BYTES = 64 << 10
_MAX_BLOCKS = 192
"""Blocks that are kept: 12 MiB."""
_AHEAD_BYTES = 8 << 20
"""How far somebody who reads in order, in large pieces, is read ahead."""
_LARGE_BYTES = 256 << 10
_ATTEMPTS = 4
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+)")


class HttpReader(Reader):
    """Range requests in blocks of 64 KiB, neighbours together; safe across threads.

    A server that ignores ranges sends the file once, into a temporary file without a name. A file that
    changes between two requests raises.

    Args:
        client: with whom to ask.
        url: the address; redirects are remembered.
        headers: credentials and the like, for the host of `url` alone.
        where: how errors name the content.
        size: if an index declares it: nothing is asked for before the first read.
    Raises:
        AccessDenied, NotFound, NetworkFailure: the server does not give it. LimitExceeded: it is too large.
    """

    def __init__(
        self,
        client: HttpClient,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        where: str | None = None,
        size: int | None = None,
    ) -> None:
        self._client = client
        self._url = url
        self._final: str | None = None
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._file: IO[bytes] | None = None
        self._mark: str | None = None
        self._total: int | None = size
        self._is_known = False
        self._next = -1
        self._ahead = 0
        name = where or printable(url)
        super().__init__(size or 0, where=name)
        if size is None:
            self._load(0, BLOCK_BYTES)
            self.size = self._total or 0

    def _fetch(self, offset: int, length: int) -> bytes:
        with self._lock:
            if self._file is None:
                data = self._from_blocks(offset, length)
                if data is not None:
                    return data
            assert self._file is not None
            return os.pread(self._file.fileno(), length, offset)

    @property
    def is_whole(self) -> bool:
        """Whether the server ignored the range, so that all the bytes are here."""
        return self._file is not None

    def close(self) -> None:
        """Forget what was read; a temporary file vanishes."""
        with self._lock:
            self._blocks.clear()
            if self._file is not None:
                self._file.close()

    def _from_blocks(self, offset: int, length: int) -> bytes | None:
        """The bytes out of blocks, which are fetched as needed; None when the whole file came instead."""
        is_sequential = offset == self._next and length >= _LARGE_BYTES
        self._ahead = min(2 * self._ahead + length, _AHEAD_BYTES) if is_sequential else 0
        self._next = offset + length
        parts: list[bytes] = []
        position = offset
        while position < offset + length:
            start = position // BLOCK_BYTES * BLOCK_BYTES
            if start not in self._blocks:
                end = max(offset + length, start + self._ahead)
                self._load(start, min(end, start + _AHEAD_BYTES, self._total or end))
                if self._file is not None:
                    return None
            self._blocks.move_to_end(start)
            block = self._blocks[start]
            piece = block[position - start : offset + length - start]
            parts.append(piece)
            position += len(piece)
        return b"".join(parts)

    def _load(self, first: int, end: int) -> None:
        """Fetch from one block's start to `end`, but not what is there already."""
        end = -(-end // BLOCK_BYTES) * BLOCK_BYTES
        for start in range(first + BLOCK_BYTES, end, BLOCK_BYTES):
            if start in self._blocks:
                end = start
                break
        end = min(end, self._total) if self._total is not None else end
        data = self._range(first, end) if end > first or self._total is None else b""
        if self._file is not None:
            return
        for start in range(0, len(data), BLOCK_BYTES):
            self._blocks[first + start] = data[start : start + BLOCK_BYTES]
        while len(self._blocks) > _MAX_BLOCKS:
            self._blocks.popitem(last=False)

    def _range(self, first: int, end: int) -> bytes:
        """Bytes of one range; a connection that breaks off is resumed from where it got to."""
        data = bytearray()
        for attempt in range(_ATTEMPTS):
            answer = self._ask(first + len(data), end)
            if answer is None:
                return b""
            if answer.status == 200:
                if self._is_known:
                    answer.discard()
                    raise self._changed()
                self._take_whole(answer)
                return b""
            last = self._check_range(answer, first + len(data))
            try:
                for piece in answer.pieces():
                    data += piece
                    if first + len(data) > last:
                        answer.discard()
                        break
            except TransientFailure:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if first + len(data) >= min(end, self._total or end):
                return bytes(data[: last - first])
        raise NetworkFailure("the server sends less than was asked for", where=self.where, hint="try again")

    def _ask(self, first: int, end: int) -> Answer | None:
        """One range request, at the address that redirects led to; None for an empty file."""
        headers = {**self._headers, "Range": f"bytes={first}-{end - 1}"}
        if self._mark is not None:
            headers["If-Range"] = self._mark
        try:
            if self._final is not None:
                try:
                    return self._client.get(self._final, headers=self._without_secrets(headers))
                except (AccessDenied, NotFound):
                    self._final = None  # a signed address that has expired
            answer = self._client.get(self._url, headers=headers)
        except StatusFailure as error:
            if error.status != 416:
                raise
            if first == 0 and self._total in (None, 0):
                self._total = 0
                return None
            raise self._changed() from error
        if answer.url != self._url:
            self._final = answer.url
        return answer

    def _without_secrets(self, headers: Mapping[str, str]) -> dict[str, str]:
        if self._final is not None and origin_of(self._final) == origin_of(self._url):
            return dict(headers)
        return {name: value for name, value in headers.items() if name.lower() != "authorization"}

    def _check_range(self, answer: Answer, first: int) -> int:
        """Compare the range that came with the one asked for; returns where it ends."""
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if (
            found is None
            or int(found["first"]) != first
            or answer.headers.get("content-encoding", "") not in ("", "identity")
        ):
            answer.discard()
            raise NetworkFailure("the server answers with another range than was asked for", where=self.where)
        total, mark = int(found["total"]), validator(answer.headers)
        if not self._is_known:
            self._require_size(total)
            self._mark, self._is_known = mark, True
        elif total != self._total or mark != self._mark:
            answer.discard()
            raise self._changed()
        if total > MAX_DOWNLOAD_BYTES:
            answer.discard()
            raise LimitExceeded(f"the file has {total} bytes, more than {MAX_DOWNLOAD_BYTES}", where=self.where)
        self._total = total
        return int(found["last"]) + 1

    def _changed(self) -> NetworkFailure:
        return NetworkFailure("the file changed while it was read", where=self.where, hint="run the command again")

    def _take_whole(self, answer: Answer) -> None:
        """The server ignores ranges: keep all of it, in a file that vanishes with this reader."""
        declared = answer.headers.get("content-length", "")
        total = int(declared) if declared.isdecimal() else None
        answer.discard()
        pieces = self._client.stream(self._url, headers=self._headers)
        self._file, size = spool(pieces, where=self.where, total=total)
        self._require_size(size)
        self._total = size

    def _require_size(self, size: int) -> None:
        if self._total not in (None, size):
            raise NetworkFailure(f"the file has {size} bytes, its index declares {self._total}", where=self.where)
