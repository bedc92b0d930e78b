from __future__ import annotations

import base64
import hashlib
import json

import pytest

from regraft.errors import DigestMismatch, NetworkFailure, NotFound
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions


@pytest.fixture
def registry(server, new_page, monkeypatch, make_tarball):
    monkeypatch.delenv("npm_config_registry", raising=False)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{server.url}/")

    def publish(name, *versions, integrity=None, shasum="", path=None):
        tarball = make_tarball({"package/package.json": b"{}", "package/model/x": b"weights"})
        digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        listed = {}
        for version in versions:
            file = f"/{name}/-/{name.split('/')[-1]}-{version}.tgz"
            server.pages[file] = new_page(tarball, etag='"1"', cut_after=60, cuts=1)
            dist = {
                "tarball": server.url + file,
                "shasum": shasum,
                "integrity": digest if integrity is None else integrity,
            }
            listed[version] = {"dist": dist}
        body = json.dumps(
            {"name": name, "dist-tags": {"latest": versions[-1], "next": versions[0]}, "versions": listed}
        )
        server.pages[path or f"/{name}"] = new_page(body.encode(), "application/json")
        return tarball

    return publish


def test_a_tarball_keeps_its_folder(registry):
    tarball = registry("demo", "1.0.0", "1.2.0")
    with open_package("npm://demo#package/model", options=SourceOptions()) as package:
        assert [entry.path for entry in package.entries] == ["package/model/x"]
        assert package.open("package/model/x").read_at(0, 99) == b"weights"
        assert (package.ref.revision, package.ref.archive) == ("1.2.0", "demo-1.2.0.tgz")
        assert package.ref.sha256 == hashlib.sha256(tarball).hexdigest()


def test_scopes_and_tags(registry):
    registry("@me/demo", "1.0.0", "2.0.0", path="/@me%2Fdemo")
    assert open_package("npm://@me/demo@next").ref.revision == "1.0.0"
    assert open_package("npm://@me/demo@2.0.0").ref.revision == "2.0.0"


def test_unknown_names_and_versions(registry):
    registry("demo", "1.2.0", "1.10.0", "2.0.0-rc.1")
    with pytest.raises(NotFound) as caught:
        open_package("npm://demo@3.0.0")
    assert "newest: 1.10.0, 1.2.0, 2.0.0-rc.1" in caught.value.hint
    with pytest.raises(NotFound, match="no package"):
        open_package("npm://other")


def test_integrity_is_checked(registry):
    wrong = "sha512-" + base64.b64encode(bytes(64)).decode()
    registry("demo", "1.0.0", integrity=wrong)
    with pytest.raises(DigestMismatch):
        open_package("npm://demo")


def test_the_strongest_integrity_counts(registry):
    weak = "sha256-" + base64.b64encode(bytes(32)).decode()
    tarball = registry("demo", "1.0.0")
    strong = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    registry("demo", "1.0.0", integrity=f"{weak} {strong}?opt")
    assert open_package("npm://demo").ref.revision == "1.0.0"


def test_old_packages_have_a_shasum_only(registry):
    tarball = registry("demo", "1.0.0")
    registry("demo", "1.0.0", integrity="", shasum=hashlib.sha1(tarball).hexdigest())
    assert open_package("npm://demo").ref.revision == "1.0.0"
    registry("demo", "1.0.0", integrity="", shasum="0" * 40)
    with pytest.raises(DigestMismatch):
        open_package("npm://demo")


@pytest.mark.parametrize("integrity", ["", "sha512-!!!", "md5-abc", "sha512"])
def test_without_any_integrity_nothing_is_taken(registry, integrity):
    registry("demo", "1.0.0", integrity=integrity)
    with pytest.raises((NetworkFailure, DigestMismatch)):
        open_package("npm://demo")


def test_a_registry_that_answers_nonsense(server, new_page, monkeypatch):
    monkeypatch.setenv("npm_config_registry", server.url)
    for body in (b"", b"[]", b'{"versions": 3}', b'{"versions": {"1.0.0": {}}, "dist-tags": {"latest": "1.0.0"}}'):
        server.pages["/demo"] = new_page(body)
        with pytest.raises(NetworkFailure):
            open_package("npm://demo")


@pytest.mark.network
def test_the_real_registry():
    with open_package("npm://left-pad@1.3.0") as package:
        assert "package/index.js" in [entry.path for entry in package.entries]
        assert package.manifest(compute=True).digest_kind == "computed"
