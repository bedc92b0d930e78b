"""The git program as a fetcher of objects: no hooks, no configuration, no prompt, no checkout, bounded."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

from regraft.errors import AccessDenied, Damaged, LimitExceeded, NetworkFailure, NotFound, Unsupported
from regraft.package.reader import Meter
from regraft.progress import progress

_MAX_BYTES = 32 << 30
_MAX_SECONDS = 3600
_POLL_SECONDS = 0.2
_MAX_OUTPUT_BYTES = 1 << 30
_MAX_COMPLAINT_BYTES = 64 << 10
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "fetch.negotiationAlgorithm=noop",
    "gc.auto=0",
    "http.followRedirects=initial",
    "maintenance.auto=false",
    "submodule.recurse=false",
)
_PASSED = (
    "PATH", "TMPDIR", "SYSTEMROOT", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE",
    "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
)  # fmt: skip
_QUIETLY = ("--quiet", "--no-tags", "--no-auto-gc", "--recurse-submodules=no")
_NOT_FOUND = re.compile(r"not found|not our ref|couldn't find remote ref|does not exist|does not appear to be", re.I)
_DENIED = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|terminal prompts disabled| 403|access denied", re.I
)


class GitRepository:
    """A bare repository in a folder of its own, filled from one address.

    Args:
        folder: an empty folder; the caller removes it.
        url: https, or http on this machine.
        where: how errors name it.
        traffic: counts the bytes that were received.
    Raises:
        Unsupported: there is no git program.
    """

    def __init__(self, folder: Path, url: str, *, where: str, traffic: Meter) -> None:
        program = shutil.which("git")
        if program is None:
            raise Unsupported("this needs the program git, which is not installed", where=where, hint="install git")
        self._program = program
        self._folder = folder / "objects.git"
        self._home = folder / "home"
        self._scheme = url.partition(":")[0]
        self._where = where
        self._traffic = traffic
        self._home.mkdir()
        self._run("init", "--quiet", "--bare", "--template=", str(self._folder), in_repository=False)
        for name, value in (
            ("remote.origin.url", url),
            ("remote.origin.promisor", "true"),
            ("remote.origin.partialclonefilter", "blob:none"),
        ):
            self._run("config", name, value)

    def fetch_commit(self, revision: str) -> str:
        """Fetch one commit and its folders, without files where the server can do that; returns its full name.

        Raises:
            NotFound, AccessDenied, NetworkFailure: the server does not give it.
        """
        if revision.startswith("-"):
            raise NotFound(f"{revision!r} is no revision", where=self._where)
        options = ("--depth=1", "--filter=blob:none")
        self._fetch(*options, "--end-of-options", "origin", revision, revision=revision)
        return self._run("rev-parse", "--verify", "--end-of-options", "FETCH_HEAD^{commit}").decode("ascii").strip()

    def fetch_objects(self, commit: str, oids: Collection[str]) -> None:
        """Fetch those of a commit's objects that are not there yet, in one go."""
        listing = self._run("rev-list", "--objects", "--missing=print", "--end-of-options", commit).decode(
            "utf-8", "replace"
        )
        absent = {line[1:] for line in listing.splitlines() if line.startswith("?")}
        missing = sorted(absent.intersection(oids))
        if missing:
            self._fetch("--no-write-fetch-head", "--filter=blob:none", "--stdin", "origin", given="\n".join(missing))

    def list_tree(self, commit: str) -> bytes:
        """`git ls-tree -r -z` of a commit."""
        return self._run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit)

    def sizes(self, oids: Collection[str]) -> dict[str, int]:
        """Size in bytes of each file object that is there."""
        lines = [line.split(" ") for line in self._batch("--batch-check", oids).decode("ascii").splitlines()]
        return {fields[0]: int(fields[2]) for fields in lines if len(fields) == 3 and fields[1] == "blob"}

    def small_contents(self, oids: Collection[str]) -> dict[str, bytes]:
        """Contents of file objects, all in memory."""
        answer = self._batch("--batch", oids)
        found: dict[str, bytes] = {}
        position = 0
        while (end := answer.find(b"\n", position)) >= 0:
            fields = answer[position:end].decode("ascii", "replace").split(" ")
            position = end + 1
            if len(fields) != 3:
                continue
            size = int(fields[2])
            found[fields[0]] = answer[position : position + size]
            position += size + 1
        return found

    def content(self, oid: str) -> tuple[IO[bytes], int]:
        """A file object in a temporary file without a name, and its size.

        Raises:
            Damaged: it cannot be read.
        """
        file = tempfile.TemporaryFile(prefix="regraft-")  # noqa: SIM115 - the caller's
        result = subprocess.run(
            self._command("cat-file", "blob", oid),
            stdout=file, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=self._environment(), check=False,
        )  # fmt: skip
        if result.returncode:
            file.close()
            raise Damaged(f"the object {oid} cannot be read", where=self._where)
        return file, os.fstat(file.fileno()).st_size

    def _batch(self, option: str, oids: Collection[str]) -> bytes:
        return self._run("cat-file", option, given="".join(f"{oid}\n" for oid in sorted(oids)))

    def _fetch(self, *arguments: str, given: str = "", revision: str = "") -> None:
        before = _size_of(self._folder)
        try:
            with progress(f"fetching {self._where}"):
                self._run(
                    "fetch", "--quiet", "--no-tags", "--no-auto-gc", "--recurse-submodules=no", *arguments, given=given
                )
        except _GitFailureError as failure:
            raise self._told(str(failure), revision) from failure
        self._traffic.bytes_read += max(0, _size_of(self._folder) - before)

    def _told(self, said: str, revision: str) -> NotFound | AccessDenied | NetworkFailure:
        if _DENIED.search(said):
            return AccessDenied(
                "the server asks for credentials: no such repository, or a private one",
                where=self._where,
                hint="check the address; clone a private repository yourself and name the folder",
            )
        if _NOT_FOUND.search(said):
            named = f" {revision}" if revision else ""
            return NotFound(
                f"there is no such repository or revision{named}",
                where=self._where,
                hint="a commit needs all of its 40 characters: git ls-remote lists branches and tags",
            )
        last = said.strip().splitlines()[-1:] or ["no reason given"]
        return NetworkFailure(
            f"git cannot fetch it: {last[0][:300]}", where=self._where, hint="check the address and the proxy"
        )

    def _run(self, *arguments: str, given: str = "", in_repository: bool = True) -> bytes:
        """Run git within bounds of time and of what it writes; returns its output."""
        command = self._command(*arguments) if in_repository else [self._program, *arguments]
        with contextlib.ExitStack() as stack:
            feed, answer, complaint = (stack.enter_context(tempfile.TemporaryFile(prefix="regraft-")) for _ in range(3))
            feed.write(given.encode("ascii"))
            feed.seek(0)
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdin=feed, stdout=answer, stderr=complaint, env=self._environment(), cwd=self._home
                )
            )
            try:
                self._wait(process, (answer, complaint))
            except BaseException:
                process.kill()
                raise
            if process.returncode:
                complaint.seek(0)
                raise _GitFailureError(complaint.read(_MAX_COMPLAINT_BYTES).decode("utf-8", "replace"))
            answer.seek(0)
            return answer.read()

    def _wait(self, process: subprocess.Popen[bytes], outputs: Sequence[IO[bytes]]) -> None:
        born = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_POLL_SECONDS)
                return
            if time.monotonic() - born > _MAX_SECONDS:
                raise LimitExceeded(f"git took more than {_MAX_SECONDS} seconds", where=self._where)
            if _size_of(self._folder) > _MAX_BYTES:
                raise LimitExceeded(f"the repository sends more than {_MAX_BYTES} bytes", where=self._where)
            if any(os.fstat(file.fileno()).st_size > _MAX_OUTPUT_BYTES for file in outputs):
                raise LimitExceeded(f"git says more than {_MAX_OUTPUT_BYTES} bytes", where=self._where)

    def _command(self, *arguments: str) -> list[str]:
        flags = [part for setting in _SETTINGS for part in ("-c", setting)]
        return [self._program, f"--git-dir={self._folder}", "--no-pager", "--no-replace-objects", *flags, *arguments]

    def _environment(self) -> dict[str, str]:
        """What git may know: the way to the network, and nothing of the user's configuration."""
        return {name: os.environ[name] for name in _PASSED if name in os.environ} | {
            "HOME": str(self._home),
            "XDG_CONFIG_HOME": str(self._home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": self._scheme,
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
        }


class _GitFailureError(Exception):
    """git ended with a failure; the text is what it said."""


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
