from __future__ import annotations

import builtins
import hashlib
import json
import os
import sys

import pytest

from regraft.errors import AccessDenied, MissingExtra, NetworkFailure, NotFound
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions

COMMIT = "a" * 40


@pytest.fixture
def hub(server, new_page, monkeypatch, tmp_path):
    """`hub(path → bytes, …)` publishes a repository whose .bin files are kept in LFS."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def publish(
        files, *, name="org/model", kind="models", revision="main", lfs_sha256=None, token=None, resolve_to=None
    ):
        siblings = []
        for path, data in files.items():
            item = {"rfilename": path, "size": len(data), "blobId": "b" * 40}
            if path.endswith(".bin"):
                sha256 = lfs_sha256 or hashlib.sha256(data).hexdigest()
                item["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(item)
            prefix = "" if kind == "models" else f"/{kind}"
            place = f"{prefix}/{name}/resolve/{COMMIT}/{path}"
            if resolve_to is None:
                server.pages[place] = new_page(data, etag='"1"', token=token)
            else:
                server.pages[place] = new_page(
                    status=302, headers={"Location": f"{resolve_to.url}/cdn/{path}"}, token=token
                )
                resolve_to.pages[f"/cdn/{path}"] = new_page(data, etag='"1"')
        document = {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "gated": False}
        for named in (f"/api/{kind}/{name}", *(f"/api/{kind}/{name}/revision/{r}" for r in (revision, COMMIT))):
            server.pages[named] = new_page(json.dumps(document).encode(), "application/json", token=token)

    return publish


def test_a_repository_is_pinned_to_its_commit_and_read_by_ranges(hub, server):
    weights = os.urandom(1_000_000)
    hub({"model.bin": weights, "config.json": b"{}", "sub/a.txt": b"x"})
    options = SourceOptions()
    with open_package("hf://org/model", options=options) as package:
        assert package.ref.revision == COMMIT
        by_path = {entry.path: entry for entry in package.entries}
        assert by_path["model.bin"].sha256 == hashlib.sha256(weights).hexdigest()
        assert by_path["config.json"].sha256 is None
        assert options.traffic.bytes_read == 0
        assert package.open("model.bin").read_at(900_000, 10) == weights[900_000:900_010]
        assert options.traffic.bytes_read <= 65536
        assert package.manifest(compute=True).digest_kind == "computed"
        assert package.manifest(compute=False).digest_kind == "partial"


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_revisions_and_parts(hub, revision):
    hub({"a/model.bin": b"x", "b/model.bin": b"y"})
    with open_package(f"hf://org/model@{revision}#b") as package:
        assert [entry.path for entry in package.entries] == ["b/model.bin"]
        assert package.open("b/model.bin").read_at(0, 9) == b"y"


def test_data_sets(hub):
    hub({"train.csv": b"a,b"}, kind="datasets", name="org/data")
    with open_package("hf://datasets/org/data") as package:
        assert package.open("train.csv").read_at(0, 9) == b"a,b"


def test_bytes_that_are_not_the_declared_ones(hub):
    hub({"model.bin": b"weights"}, lfs_sha256="0" * 64)
    with open_package("hf://org/model") as package:
        (flaw,) = package.manifest().flaws
    assert (flaw.path, flaw.declared) == ("model.bin", "0" * 64)


def test_the_token_goes_to_the_hub_alone(hub, server, other_server, monkeypatch):
    hub({"model.bin": b"weights"}, token="t0ken", resolve_to=other_server)
    with pytest.raises(AccessDenied):
        open_package("hf://org/model")
    monkeypatch.setenv("HF_TOKEN", "t0ken")
    with open_package("hf://org/model") as package:
        assert package.open("model.bin").read_at(0, 99) == b"weights"
    assert other_server.requests
    assert all("authorization" not in headers for _, _, headers in other_server.requests)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(401, "RepoNotFound", AccessDenied), (401, None, AccessDenied), (403, "GatedRepo", AccessDenied),
     (404, "RevisionNotFound", NotFound), (404, "RepoNotFound", NotFound), (400, None, NetworkFailure)],
)  # fmt: skip
def test_what_the_hub_says_no_to(hub, server, new_page, status, code, error):
    headers = {"X-Error-Code": code} if code else {}
    server.pages["/api/models/org/model"] = new_page(b"{}", "application/json", status, headers)
    server.pages["/api/models/org/model/revision/v9"] = server.pages["/api/models/org/model"]
    for reference in ("hf://org/model", "hf://org/model@v9"):
        with pytest.raises(error) as caught:
            open_package(reference)
        assert caught.value.where == reference


def test_a_hub_that_is_not_there_or_talks_nonsense(hub, server, new_page, monkeypatch):
    server.pages["/api/models/org/model"] = new_page(b"<html>", "text/html")
    with pytest.raises(NetworkFailure):
        open_package("hf://org/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    with pytest.raises(NetworkFailure, match="plain http"):
        open_package("hf://org/model")


def test_names_that_lead_out_are_obstacles(hub):
    hub({"../evil.bin": b"x", "ok.bin": b"y"})
    with open_package("hf://org/model") as package:
        assert {entry.path: entry.obstacle is None for entry in package.entries} == {
            "../evil.bin": False,
            "ok.bin": True,
        }


def test_without_huggingface_hub_the_extra_is_named(hub, monkeypatch):
    real_import = builtins.__import__

    def imported(name, *args, **kwargs):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("huggingface_hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(MissingExtra) as caught:
        open_package("hf://org/model")
    assert caught.value.hint == "pip install 'regraft[hub]'"
