"""Git LFS: pointers in a repository, and where a server keeps what they point to.

Source: the Git LFS specification, docs/spec.md and docs/api/batch.md of git-lfs 3.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec

from regraft.errors import AccessDenied, LimitExceeded, NetworkFailure, NotFound
from regraft.package.sources.http import HttpClient, parse_document
from regraft.record.digest import Digest

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\n(?:[a-z0-9.-]+ [^\n]*\n)*?size (?P<size>\d{1,15})\n?"
)
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_BATCH = 100
_FORBIDDEN = frozenset({"host", "content-length", "transfer-encoding", "range", "connection"})


class LfsPointer(msgspec.Struct, frozen=True):
    """What a repository holds in place of a large file."""

    sha256: Digest
    size_bytes: int


class LfsObject(msgspec.Struct, frozen=True):
    """Where a large file is to be had, and with which headers."""

    url: str
    headers: Mapping[str, str]


class _Action(msgspec.Struct):
    href: str
    header: dict[str, str] = {}


class _Answered(msgspec.Struct):
    oid: str
    actions: dict[str, _Action] = {}


class _Batch(msgspec.Struct):
    objects: list[_Answered]


def parse_pointer(content: bytes) -> LfsPointer | None:
    """The pointer that a small file is, or None."""
    match = _POINTER.fullmatch(content)
    return LfsPointer(Digest(match["oid"].decode()), int(match["size"])) if match else None


def ask_for_objects(
    client: HttpClient, repository: str, pointers: Collection[LfsPointer]
) -> dict[LfsPointer, LfsObject]:
    """Those objects that the server of a repository offers; none when it has no LFS.

    Raises:
        NetworkFailure: the server cannot be reached at all.
    """
    base = repository.rstrip("/")
    url = f"{base if base.endswith('.git') else base + '.git'}/info/lfs/objects/batch"
    ordered = sorted(pointers, key=lambda pointer: pointer.sha256)
    found: dict[LfsPointer, LfsObject] = {}
    for start in range(0, len(ordered), _BATCH):
        part = ordered[start : start + _BATCH]
        try:
            answer = client.post(url, _question(part), headers={"Accept": _MEDIA_TYPE, "Content-Type": _MEDIA_TYPE})
            batch: _Batch = parse_document(answer.body(16 << 20), _Batch, where=url)
        except (NotFound, AccessDenied, LimitExceeded, NetworkFailure):
            return found
        found.update(_offered(part, batch))
    return found


def _question(pointers: Collection[LfsPointer]) -> bytes:
    return msgspec.json.encode(
        {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": pointer.sha256, "size": pointer.size_bytes} for pointer in pointers],
            "hash_algo": "sha256",
        }
    )


def _offered(pointers: Collection[LfsPointer], batch: _Batch) -> dict[LfsPointer, LfsObject]:
    by_oid = {str(pointer.sha256): pointer for pointer in pointers}
    return {
        by_oid[item.oid]: LfsObject(item.actions["download"].href, _safe(item.actions["download"].header))
        for item in batch.objects
        if item.oid in by_oid and "download" in item.actions
    }


def _safe(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that a server may ask us to send: none that would change what the request means."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() not in _FORBIDDEN and re.fullmatch(r"[!-~]+", name) and re.fullmatch(r"[\t -~]*", value)
    }
