"""The package digest, against the OpenSSF library that defines it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_signing import hashing
from model_signing._signing.signing import Payload

from regraft.package.package import open_package
from regraft.record.evidence import DigestKind


def signed_digest(root: Path) -> str:
    """The subject digest that a Model Signing v1.0 signature of the model would name."""
    config = hashing.Config().set_ignored_paths(paths=[root / ".git"], ignore_git_paths=False)
    manifest = config.hash(root)
    return Payload(manifest).statement.pb.subject[0].digest["sha256"]


def test_a_nested_model(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "onnx/model.onnx", "onnx/a/b/c/deep.bin", "empty"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else os.urandom(3000))
    with open_package(tmp_path) as package:
        manifest = package.manifest()
    assert manifest.digest == signed_digest(tmp_path)
    assert manifest.digest_kind is DigestKind.COMPUTED
    assert {entry.path: entry.sha256 for entry in manifest.entries} == {
        str(path.relative_to(tmp_path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }


def test_names_are_sorted_by_their_components(tmp_path: Path) -> None:
    names = [
        "a/x",
        "a-b/x",
        "a.b",
        "A",
        "a b/y",
        "é/1",
        "e/1",
        "-",
        ".hidden",
        "a/x-1/z",
        "a/x.1",
        "10",
        "9",
        "日本/重み",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with open_package(tmp_path) as package:
        assert package.manifest().digest == signed_digest(tmp_path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sets(st.lists(st.text("aB-._ é0", min_size=1, max_size=3), min_size=1, max_size=3).map(tuple), max_size=8))
def test_any_names(tmp_path_factory: pytest.TempPathFactory, names: set[tuple[str, ...]]) -> None:
    root = tmp_path_factory.mktemp("model")
    (root / "config.json").write_text("{}")
    for parts in sorted(names):
        path = root.joinpath(*parts)
        if {".", ".."} & set(parts) or path.exists() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("/".join(parts))
    with open_package(root) as package:
        assert package.manifest().digest == signed_digest(root)


def test_a_single_file(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    with open_package(path) as package:
        assert package.manifest().digest == signed_digest(path)


def test_only_the_git_folder_is_left_out(tmp_path: Path) -> None:
    for name in (".git/HEAD", ".gitattributes", ".gitignore", ".github/workflow.yml", "model.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    with open_package(tmp_path) as package:
        manifest = package.manifest()
    assert manifest.digest == signed_digest(tmp_path)
    names = {entry.path for entry in manifest.entries}
    assert names == {".gitattributes", ".gitignore", ".github/workflow.yml", "model.bin"}


def test_without_hashing_the_digest_says_that_it_is_weaker(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 300_000)
    with open_package(tmp_path) as package:
        partial, computed = package.manifest(compute=False), package.manifest()
    assert partial.digest_kind is DigestKind.PARTIAL
    assert partial.digest != computed.digest


def test_the_first_subject_is_the_package(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with open_package(tmp_path) as package:
        manifest = package.manifest()
        subjects = package.subjects(manifest)
    assert [(subject.name, subject.sha256) for subject in subjects] == [
        (tmp_path.name, manifest.digest),
        ("model.bin", hashlib.sha256(b"x").hexdigest()),
    ]
