from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from regraft.errors import AccessDenied, NetworkFailure, NotFound, Unsupported
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions

WEIGHTS = os.urandom(300_000)
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{DIGEST}\nsize {len(WEIGHTS)}\n"


def git(folder, *arguments):
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(server, tmp_path):
    """A repository behind smart HTTP: (reference without revision, its first and second commit)."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    (work / "model.bin").write_text(POINTER)
    (work / "sub").mkdir()
    (work / "sub/config.json").write_text("{}")
    (work / "sub/big.bin").write_bytes(bytes(200_000))
    (work / "a\nb\u202e").write_text("odd")
    (work / "link").symlink_to("sub/config.json")
    (work / "out").symlink_to("../../etc/passwd")
    (work / "absolute").symlink_to("/etc/passwd")
    (work / "to-model").symlink_to("model.bin")
    (work / "folder-link").symlink_to("sub")
    git(work, "add", "-A")
    git(work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    git(work, "commit", "-q", "-m", "one")
    first = git(work, "rev-parse", "HEAD")
    (work / "sub/config.json").write_text('{"second": 1}')
    git(work, "commit", "-q", "-a", "-m", "two")
    git(work, "tag", "v1", first)
    bare = tmp_path / "served/org/model.git"
    bare.parent.mkdir(parents=True)
    git(tmp_path, "clone", "-q", "--bare", str(work), str(bare))
    git(bare, "config", "uploadpack.allowFilter", "true")
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    server.git_root = tmp_path / "served"
    return f"git+{server.url}/git/org/model.git", first, git(work, "rev-parse", "HEAD")


def offer_lfs(server, new_page, *, content=WEIGHTS):
    def batch(body):
        asked = json.loads(body)
        assert asked["operation"] == "download"
        objects = []
        for item in asked["objects"]:
            action = {"href": f"{server.url}/lfs/{item['oid']}", "header": {"Authorization": "Bearer lfs"}}
            objects.append({**item, "actions": {"download": action}})
        server.pages[f"/lfs/{asked['objects'][0]['oid']}"] = new_page(content, etag='"1"', token="lfs")
        return new_page(json.dumps({"transfer": "basic", "objects": objects}).encode(), "application/vnd.git-lfs+json")

    server.posts["/git/org/model.git/info/lfs/objects/batch"] = batch


def test_a_commit_with_everything_in_it(repository, server, new_page):
    reference, first, _ = repository
    offer_lfs(server, new_page)
    with open_package(f"{reference}@{first}") as package:
        assert package.ref.revision == first
        by_path = {entry.path: entry for entry in package.entries}
        good = {path for path, entry in by_path.items() if entry.obstacle is None}
        assert good == {"model.bin", "to-model", "link", "sub/config.json", "sub/big.bin", "a\nb\u202e"}
        assert by_path["model.bin"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
        assert by_path["model.bin"].size_bytes == len(WEIGHTS)
        assert package.open("to-model").read_at(0, 10) == WEIGHTS[:10]
        assert package.open("link").read_at(0, 99) == b"{}"
        assert package.open("sub/big.bin").sha256() == hashlib.sha256(bytes(200_000)).hexdigest()
        assert "submodule" in (by_path["vendored"].obstacle or "")
        for path in ("out", "absolute"):
            with pytest.raises(AccessDenied):
                package.open(path)
        assert package.manifest(compute=True).digest_kind == "computed"


@pytest.mark.parametrize("revision", ["", "@main", "@v1"])
def test_branches_and_tags_are_pinned(repository, revision):
    reference, first, second = repository
    with open_package(reference + revision) as package:
        assert package.ref.revision == (first if revision == "@v1" else second)


def test_a_part_costs_that_part(repository):
    reference, first, _ = repository
    whole, part = SourceOptions(), SourceOptions()
    with open_package(f"{reference}@{first}", options=whole):
        pass
    with open_package(f"{reference}@{first}#sub/config.json", options=part) as package:
        assert package.open("sub/config.json").read_at(0, 9) == b"{}"
        assert [entry.path for entry in package.entries] == ["sub/config.json"]
    assert 0 < part.traffic.bytes_read < whole.traffic.bytes_read
    with pytest.raises(NotFound):
        open_package(f"{reference}@{first}#nothing")


def test_a_server_without_filters_works_too(repository, server, tmp_path):
    reference, first, _ = repository
    git(tmp_path / "served/org/model.git", "config", "uploadpack.allowFilter", "false")
    with open_package(f"{reference}@{first}#sub") as package:
        assert len(package.entries) == 2


def test_lfs_that_is_not_offered_is_an_obstacle(repository):
    reference, first, _ = repository
    with open_package(f"{reference}@{first}") as package:
        entry = next(entry for entry in package.entries if entry.path == "model.bin")
        assert "LFS" in (entry.obstacle or "")
        assert entry.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_nothing_there(repository, server):
    reference, _, _ = repository
    for wrong in (f"{reference}@nothing", f"{reference}@{'9' * 40}", f"git+{server.url}/git/org/other.git"):
        with pytest.raises(NotFound):
            open_package(wrong)


def test_a_private_repository_does_not_ask(server, new_page):
    server.pages["/private.git/info/refs"] = new_page(
        b"", status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}
    )  # fmt: skip
    with pytest.raises(AccessDenied):
        open_package(f"git+{server.url}/private.git")


def test_a_server_that_is_no_git_server(server, new_page):
    server.pages["/x/info/refs"] = new_page(b"hello", "text/plain")
    with pytest.raises((NetworkFailure, NotFound)):
        open_package(f"git+{server.url}/x")
    with pytest.raises(NetworkFailure):
        open_package("git+http://127.0.0.1:9/x")


@pytest.mark.parametrize("revision", ["-u", "--upload-pack=touch-x", "--exec=x"])
def test_a_revision_is_never_an_option(repository, revision):
    reference, _, _ = repository
    with pytest.raises(Exception) as caught:  # noqa: PT011 - some are refused before a source sees them
        open_package(f"{reference}@{revision}")
    assert caught.value.__class__.__module__ == "regraft.errors"


def test_configuration_and_hooks_of_the_user_have_no_say(repository, tmp_path, monkeypatch):
    reference, first, _ = repository
    marker = tmp_path / "ran"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f"[core]\n\tfsmonitor = touch {marker}\n\thooksPath = {home}\n[credential]\n\thelper = !touch {marker}\n"
        f'[url "http://127.0.0.1:9/"]\n\tinsteadOf = http://\n'
    )
    hook = home / "reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.sshCommand")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"touch {marker}")
    with open_package(f"{reference}@{first}") as package:
        assert package.entries
    assert not marker.exists()


def test_nothing_is_left_behind(repository, tmp_path, monkeypatch):
    import tempfile

    reference, first, _ = repository
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_package(f"{reference}@{first}") as package:
        assert list(temporary.iterdir())
        package.manifest()
    with pytest.raises(NotFound):
        open_package(f"{reference}@nothing")
    assert list(temporary.iterdir()) == []


def test_without_git(server, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported):
        open_package(f"git+{server.url}/x")
