"""Repositories of a model hub, through huggingface_hub; files are read by ranges with our own client."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import AccessDenied, MissingExtra, NetworkFailure, NotFound
from regraft.package.reader import Reader
from regraft.package.reference import ModelRef
from regraft.package.sources.address import check_address, printable
from regraft.package.sources.http import client_of
from regraft.package.sources.http_reader import HttpReader
from regraft.package.sources.interface import Entry, SourceOptions, Tree
from regraft.package.sources.listed_tree import ListedTree
from regraft.record.digest import parse_digest

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_DEFAULT_ENDPOINT = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_KINDS = {"datasets": "dataset", "spaces": "space"}


class HubSource:
    """`hf://org/name@revision`, `hf://datasets/org/name`; HF_ENDPOINT and HF_TOKEN are respected."""

    def origin(self, ref: ModelRef) -> str:
        """See `RemoteSource.origin`."""
        return printable(_endpoint())

    def is_exact(self, ref: ModelRef) -> bool:
        """A commit is exact, a branch or tag is not."""
        return ref.revision is not None and _COMMIT.fullmatch(ref.revision) is not None

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Pin the revision to its commit and list the files; large ones with their declared digest.

        Raises:
            NotFound: no such repository or revision. AccessDenied: it is gated or private.
            MissingExtra: huggingface_hub is not installed.
        """
        client = client_of(options.traffic, offline=options.offline, where=str(ref))
        endpoint = _endpoint()
        check_address(endpoint)
        try:
            from huggingface_hub import HfApi, get_token, hf_hub_url
        except ImportError as error:
            raise MissingExtra("huggingface_hub", extra="hub", where=str(ref)) from error
        prefix, _, rest = ref.location.partition("/")
        kind, repository = (_KINDS[prefix], rest) if prefix in _KINDS and rest else (None, ref.location)
        token = get_token()
        with _told(ref):
            info = HfApi(endpoint=endpoint, token=token or False).repo_info(
                repository, repo_type=kind, revision=ref.revision, files_metadata=True, timeout=30
            )
        commit = info.sha
        if commit is None or not _COMMIT.fullmatch(commit):
            raise NetworkFailure("the hub does not say which commit this is", where=str(ref))
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        def open_entry(entry: Entry) -> Reader:
            url = hf_hub_url(repository, entry.path, repo_type=kind, revision=commit, endpoint=endpoint)
            return HttpReader(client, url, headers=headers, where=entry.path, size=entry.size_bytes)

        entries = [_entry(sibling) for sibling in getattr(info, "siblings", None) or []]
        return ListedTree(msgspec.structs.replace(ref, revision=commit), entries, open_entry)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or _DEFAULT_ENDPOINT


def _entry(sibling: RepoSibling) -> Entry:
    path, size = sibling.rfilename, sibling.size
    if size is None:
        return Entry(path, 0, obstacle="the hub does not declare its size")
    if path.startswith("/") or ".." in path.split("/"):
        return Entry(path, size, obstacle="the name leads out of the repository")
    declared = sibling.lfs.sha256 if sibling.lfs is not None else None
    with contextlib.suppress(ValueError):
        return Entry(path, size, parse_digest(declared) if declared else None)
    return Entry(path, size, obstacle="the hub declares a digest that is none")


@contextlib.contextmanager
def _told(ref: ModelRef) -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that say what to do."""
    from huggingface_hub import errors

    where = str(ref)
    try:
        yield
    except errors.GatedRepoError as error:
        raise AccessDenied(
            "the repository is gated: its owner decides who may read it",
            where=where,
            hint="accept its conditions on its page, then set HF_TOKEN (hf auth login)",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotFound(f"there is no revision {ref.revision}", where=where, hint="main is the usual branch") from error
    except errors.RepositoryNotFoundError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise AccessDenied(
                "there is no such repository, or it is private",
                where=where,
                hint="check the name; for a private one set HF_TOKEN (hf auth login)",
            ) from error
        raise NotFound("there is no such repository", where=where, hint="check the name: hf://org/name") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise AccessDenied(f"the hub answers {status}", where=where, hint="set HF_TOKEN (hf auth login)") from error
        raise NetworkFailure(f"the hub answers {status}", where=where, hint="try again later") from error
    except errors.HFValidationError as error:
        raise NotFound(f"this is no repository name: {error}", where=where) from error
    except Exception as error:
        # the HTTP library below huggingface_hub has changed twice; its errors have no common base with ours
        raise NetworkFailure(
            f"the hub cannot be asked: {error}", where=where, hint="check HF_ENDPOINT, HF_HUB_OFFLINE and the proxy"
        ) from error
