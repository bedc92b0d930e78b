"""SHA-256 digests of bytes and files: the identity of everything that evidence speaks of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NewType

Digest = NewType("Digest", str)
"""64 lower-case hexadecimal characters: a SHA-256 digest."""

_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


def parse_digest(text: str) -> Digest:
    """Check that a text is a SHA-256 digest in hexadecimal.

    Raises:
        ValueError: it is not 64 hexadecimal characters.
    """
    lowered = text.lower()
    if not _HEX.fullmatch(lowered):
        raise ValueError(f"not a sha256 digest: {text[:80]!r}")
    return Digest(lowered)


def digest_bytes(data: bytes) -> Digest:
    """SHA-256 of bytes in memory."""
    return Digest(hashlib.sha256(data).hexdigest())


def digest_chunks(chunks: Iterable[bytes | memoryview]) -> Digest:
    """SHA-256 of a stream of chunks."""
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
    return Digest(hasher.hexdigest())


def digest_file(path: Path) -> Digest:
    """SHA-256 of a file's bytes, read once in 1 MiB pieces through one buffer."""
    return digest_chunks(_chunks(path))


def package_digest(files: Iterable[tuple[str, Digest]]) -> Digest:
    """One digest for a set of files: SHA-256 over their raw digests, in order of path components.

    Args:
        files: (relative POSIX path, SHA-256 of the bytes) of each file.
    Source: OpenSSF Model Signing v1.0, the subject of a signature that is serialised by files.
        The names themselves do not enter the digest, only their order does; evidence therefore
        lists every file with its name beside the package.
    """
    ordered = sorted(files, key=lambda item: PurePosixPath(item[0]).parts)
    return digest_chunks(bytes.fromhex(digest) for _, digest in ordered)


def _chunks(path: Path) -> Iterator[memoryview]:
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield view[:count]
