"""The store: evidence, blobs and steps as files. The files are the truth; everything else is derived from them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from regraft.errors import AccessDenied, DigestMismatch, NotFound, RegraftError, StoreError, StoreVersionError
from regraft.record.digest import Digest, digest_bytes, parse_digest
from regraft.record.durable import is_temporary, publish, settle, sweep_folder, sync_folder, temporary_file, told, write
from regraft.record.evidence import Evidence, Record
from regraft.record.statement import evidence_from_statement, statement_from_evidence

STORE_VERSION = 1
"""Layout of the files. A change that an older Regraft cannot read raises it."""

_MAGIC = "regraft-store"
_FICLONE = 0x40049409
_CHUNK_BYTES = 1 << 20
_MAX_EVIDENCE_BYTES = 256 << 20


def open_store(path: Path | None = None) -> Store:
    """The store at a path; nothing is read or created before it is used.

    Args:
        path: default: the environment variable REGRAFT_STORE, else the platform's user data directory.
    """
    if path is None and (named := os.environ.get("REGRAFT_STORE")):
        path = Path(named).expanduser()
    if path is None:
        import platformdirs

        path = Path(platformdirs.user_data_dir("regraft", appauthor=False))
    return Store(path)


class Store:
    """Evidence, blobs and steps below one directory.

    What a method returned is on the disk: file and directory are synced before it returns. Every file
    appears whole or not at all, so two processes may write at once and either may be killed anywhere.
    Reading a store that does not exist finds nothing; the first write creates it.

    Every method raises StoreError when the directory is not a store or the operating system refuses,
    and StoreVersionError when a newer Regraft wrote it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._is_checked = False
        self._durable: set[Path] = set()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def exists(self) -> bool:
        """Whether there is a store already; the first write creates one."""
        if self._is_checked:
            return True
        with told(self.root):
            try:
                names = {path.name for path in self.root.iterdir()}
            except FileNotFoundError:
                return False
        if "version" not in names:
            if any(not is_temporary(name) and name != "lost+found" for name in names):
                raise StoreError(
                    "this directory has content and is not a Regraft store",
                    where=str(self.root),
                    hint="name an empty or new directory with --store DIR or REGRAFT_STORE",
                )
            return False
        self._check_version()
        self._is_checked = True
        return True

    # evidence

    def put_evidence(self, evidence: Evidence) -> Digest:
        """Keep evidence as an in-toto Statement; the digest is that of the stored bytes."""
        return self.put_statement(statement_from_evidence(evidence))

    def put_statement(self, statement: bytes) -> Digest:
        """Keep the bytes of a Statement exactly as they are, for instance received from someone else.

        Raises:
            ValueError: the bytes are not a Statement about evidence of this schema.
        """
        evidence_from_statement(statement)
        digest = digest_bytes(statement)
        path = self._path("evidence", digest, ".json")
        self._prepare(path.parent)
        if _content(path) == statement:
            sync_folder(path.parent)
        else:
            publish(path, statement)
        return digest

    def statement(self, digest: Digest) -> bytes:
        """The stored bytes of a piece of evidence, checked against their digest.

        Raises:
            NotFound: the store has no such evidence.
            DigestMismatch: the file was changed after it was written.
        """
        path = self._path("evidence", digest, ".json")
        data = _content(path) if self.exists() else None
        if data is None:
            raise NotFound(f"the store has no evidence {digest}", where=str(self.root))
        if digest_bytes(data) != digest:
            raise DigestMismatch(
                "the file does not hold the evidence that was stored under this name",
                where=str(path),
                hint=f"restore it from a backup, or remove it (rm -f {str(path)!r}) and run the verb again",
            )
        return data

    def evidence(self, digest: Digest) -> Evidence:
        """A piece of evidence, its bytes checked against the digest. Raises as `statement`, or StoreError."""
        return self._decode(self.statement(digest), digest)

    def evidence_digests(self) -> Iterator[Digest]:
        """Digests of all evidence, by file name; nothing is opened."""
        for folder in self.evidence_folders():
            yield from digests_in(folder)

    def evidence_folders(self) -> list[Path]:
        """The folders that hold evidence files, sorted."""
        return _folders(self.root / "evidence/sha256") if self.exists() else []

    def all_evidence(
        self, *, naming: Digest | None = None, on_damage: Callable[[RegraftError], None] | None = None
    ) -> Iterator[Record]:
        """Every piece of evidence, ordered by digest.

        Args:
            naming: leave out, without decoding it, what does not contain this digest.
            on_damage: told about a file that cannot be used, which is then left out; default: raise.
        """
        for digest in self.evidence_digests():
            try:
                statement = self.statement(digest)
                if naming is not None and naming.encode() not in statement:
                    continue
                evidence = self._decode(statement, digest)
            except (DigestMismatch, StoreError, NotFound) as error:
                if on_damage is None:
                    raise
                on_damage(error)
            else:
                yield Record(digest, evidence)

    # blobs

    def put_blob(self, chunks: Iterable[bytes | memoryview], *, expected: Digest | None = None) -> Digest:
        """Keep a stream of bytes, read-only, under its digest.

        An exception that `chunks` raises passes through; nothing is kept then.

        Args:
            expected: what the digest must be.
        Raises:
            DigestMismatch: it is another; nothing is kept.
        """
        return self._put_blob(lambda file, hasher: _stream(file, hasher, chunks, self.root), expected)

    def put_blob_file(self, path: Path, *, expected: Digest | None = None) -> Digest:
        """Keep a file's content: a reflink where the file system can, else a copy; never a hard link.

        Raises:
            NotFound, AccessDenied: the file cannot be read.
            DigestMismatch: its digest is not `expected`; nothing is kept.
        """
        with _open_source(path) as source:
            return self._put_blob(lambda file, hasher: _clone_or_copy(source, file, hasher, self.root), expected)

    def blob_path(self, digest: Digest) -> Path | None:
        """Where a blob lies, or None. The content is not hashed again: who loads it does that."""
        path = self._path("blobs", digest)
        return path if self.exists() and _is_file(path) else None

    # steps

    def set_step(self, key: Digest, evidence_digest: Digest) -> None:
        """Note which evidence a step ended in; the last one wins.

        Raises:
            NotFound: the store does not have that evidence.
        """
        if not (self.exists() and _is_file(self._path("evidence", evidence_digest, ".json"))):
            raise NotFound(f"the store has no evidence {evidence_digest}", where=str(self.root))
        path = self.root / "steps" / parse_digest(key)
        line = f"{evidence_digest}\n".encode()
        self._prepare(path.parent)
        publish(path, line)

    def step(self, key: Digest) -> Digest | None:
        """The evidence that a step ended in, or None when it has not been done or its note is damaged."""
        path = self.root / "steps" / parse_digest(key)
        data = _content(path) if self.exists() else None
        if data is None:
            return None
        try:
            digest = parse_digest(data.decode("ascii").removesuffix("\n"))
        except ValueError:
            return None
        return digest if _is_file(self._path("evidence", digest, ".json")) else None

    # upkeep

    def folder(self, name: str) -> Path:
        """A folder below the root, created, for what can be made again: the truth is evidence, blobs and steps."""
        path = self.root / name
        self._prepare(path)
        return path

    def sweep(self) -> int:
        """Remove files that interrupted writers left behind, once nobody has written to them for a day.

        Returns:
            how many were removed. Writing does the same for each folder that it comes to.
        """
        if not self.exists():
            return 0
        areas = [self.root, self.root / "steps", *_folders(self.root / "evidence/sha256")]
        return sum(sweep_folder(folder) for folder in [*areas, *_folders(self.root / "blobs/sha256")])

    def _decode(self, statement: bytes, digest: Digest) -> Evidence:
        try:
            return evidence_from_statement(statement)
        except ValueError as error:
            raise StoreError(
                f"the evidence cannot be read: {error}",
                where=str(self._path("evidence", digest, ".json")),
                hint="it may come from a newer Regraft: pip install --upgrade regraft",
            ) from error

    def _path(self, area: str, digest: Digest, suffix: str = "") -> Path:
        checked = parse_digest(digest)
        return self.root / area / "sha256" / checked[:2] / f"{checked}{suffix}"

    def _check_version(self) -> None:
        path = self.root / "version"
        word, _, number = (_content(path) or b"").decode("ascii", "replace").strip().partition(" ")
        if word != _MAGIC or not number.isdecimal():
            raise StoreError(
                "its version file is not that of a Regraft store",
                where=str(path),
                hint="name another directory with --store DIR or REGRAFT_STORE",
            )
        if int(number[:9]) > STORE_VERSION:
            raise StoreVersionError(
                f"the store has layout version {number[:9]}, this Regraft knows up to {STORE_VERSION}",
                where=str(self.root),
                hint="pip install --upgrade regraft, or name another directory with --store DIR",
            )

    def _prepare(self, folder: Path) -> None:
        """Create a folder below the root durably, and the store itself before its first content."""
        if folder in self._durable:
            return
        if not self.exists():
            with told(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(StoreError):  # a parent that may be entered but not read
                sync_folder(self.root.parent)
            publish(self.root / "version", f"{_MAGIC} {STORE_VERSION}\n".encode())
            self._is_checked = True
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
        sweep_folder(folder)
        for parent in (folder, *folder.parents):
            sync_folder(parent)
            if parent == self.root:
                break
        self._durable.add(folder)

    def _put_blob(self, fill: Callable[[int, hashlib._Hash], None], expected: Digest | None) -> Digest:
        """Write a blob whose name is known only once its bytes are; one that was damaged is mended so."""
        incoming = self.root / "blobs" / "sha256"
        self._prepare(incoming)
        with temporary_file(incoming) as (file, temporary):
            hasher = hashlib.sha256()
            fill(file, hasher)
            digest = Digest(hasher.hexdigest())
            if expected is not None and digest != expected:
                raise DigestMismatch(
                    f"the bytes hash to {digest[:12]}…, expected was {expected[:12]}…",
                    where=str(self.root),
                    hint="they changed on the way, or at their source: fetch them again",
                )
            path = self._path("blobs", digest)
            self._prepare(path.parent)
            settle(file, temporary, path)
        return digest


def digests_in(folder: Path) -> list[Digest]:
    """Digests of the evidence files in one folder, by name, sorted."""
    with told(folder), os.scandir(folder) as entries:
        stems = [entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json")]
    found = []
    for stem in sorted(stems):
        with contextlib.suppress(ValueError):
            found.append(parse_digest(stem))
    return found


def _folders(area: Path) -> list[Path]:
    with told(area):
        try:
            return sorted(path for path in area.iterdir() if len(path.name) == 2)
        except FileNotFoundError:
            return []


def _is_file(path: Path) -> bool:
    with told(path):
        return path.is_file()


def _content(path: Path) -> bytes | None:
    """A small file's bytes, None when there is none."""
    with told(path):
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_EVIDENCE_BYTES + 1)
        except FileNotFoundError:
            return None
    if len(data) > _MAX_EVIDENCE_BYTES:
        raise StoreError(f"a record of more than {_MAX_EVIDENCE_BYTES >> 20} MiB", where=str(path))
    return data


def _stream(file: int, hasher: hashlib._Hash, chunks: Iterable[bytes | memoryview], where: Path) -> None:
    for chunk in chunks:
        hasher.update(chunk)
        write(file, chunk, where)


def _clone_or_copy(source: int, file: int, hasher: hashlib._Hash, where: Path) -> None:
    """Fill `file` from `source`; the digest is that of what arrived, even if the source changes meanwhile."""
    try:
        fcntl.ioctl(file, _FICLONE, source)
    except OSError:
        while chunk := os.read(source, _CHUNK_BYTES):
            hasher.update(chunk)
            write(file, chunk, where)
    else:
        os.lseek(file, 0, os.SEEK_SET)
        while chunk := os.read(file, _CHUNK_BYTES):
            hasher.update(chunk)


@contextlib.contextmanager
def _open_source(path: Path) -> Iterator[int]:
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("there is no such file", where=str(path)) from error
    except OSError as error:
        raise AccessDenied(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise NotFound("this is not a regular file", where=str(path))
        yield source
    finally:
        os.close(source)
