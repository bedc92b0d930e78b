from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.errors import AccessDenied, Damaged, LimitExceeded, NotFound, RegraftError
from regraft.package.package import open_package
from regraft.package.reference import ModelRef
from regraft.package.sources import folder
from regraft.package.sources.interface import SourceOptions


def listed(path: Path) -> dict[str, str | None]:
    with open_package(ModelRef("path", str(path))) as package:
        return {entry.path: entry.obstacle for entry in package.entries}


def write(root: Path, **files: str) -> None:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_files_come_sorted_by_path_components(tmp_path):
    for name in ("b/x", "b-1", "b.c", "a/z/y", "a"):
        if name != "a":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    assert list(listed(tmp_path)) == sorted(["b/x", "b-1", "b.c", "a/z/y"], key=lambda p: p.split("/"))
    assert list(listed(tmp_path)) == ["a/z/y", "b/x", "b-1", "b.c"]


def test_only_git_at_the_top_is_skipped(tmp_path):
    write(tmp_path, **{".git__config": "", "x__.git__hook": "", ".hidden": "", ".gitattributes": ""})
    assert set(listed(tmp_path)) == {".gitattributes", ".hidden", "x/.git/hook"}


def test_an_empty_folder_is_a_package_without_entries(tmp_path):
    assert listed(tmp_path) == {}


def test_links_inside_are_followed(tmp_path):
    write(tmp_path, real__model="weights")
    (tmp_path / "file").symlink_to("real/model")
    (tmp_path / "absolute").symlink_to(tmp_path / "real/model")
    (tmp_path / "folder").symlink_to("real")
    assert listed(tmp_path) == {"absolute": None, "file": None, "folder/model": None, "real/model": None}
    with open_package(tmp_path) as package:
        for entry in package.entries:
            assert package.open(entry.path).read_at(0, 99) == b"weights"


def test_links_out_of_the_root_are_listed_and_never_opened(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("key")
    root = tmp_path / "package"
    root.mkdir()
    (root / "a").symlink_to(secret)
    (root / "b").symlink_to("../secret")
    (root / "c").symlink_to("/etc")
    (root / "d").symlink_to("b")
    assert all("leads out" in (obstacle or "") for obstacle in listed(root).values())
    with open_package(root) as package:
        for entry in package.entries:
            with pytest.raises(AccessDenied):
                package.open(entry.path)
        assert package.manifest().entries == ()


def test_a_root_whose_name_is_a_prefix_of_its_sibling_does_not_reach_it(tmp_path):
    write(tmp_path, package__a="x", package2__secret="key")
    (tmp_path / "package/link").symlink_to("../package2/secret")
    assert "leads out" in (listed(tmp_path / "package")["link"] or "")


def test_loops_and_dangling_links_are_obstacles(tmp_path):
    write(tmp_path, a__b__file="x")
    (tmp_path / "a/b/up").symlink_to("../..")
    (tmp_path / "a/b/self").symlink_to("self")
    (tmp_path / "a/b/nothing").symlink_to("gone")
    (tmp_path / "a/b/here").symlink_to(".")
    found = listed(tmp_path)
    assert "loop" in (found["a/b/up"] or "")
    assert "loop" in (found["a/b/here"] or "")
    assert "cannot be looked at" in (found["a/b/self"] or "")
    assert "nothing" in (found["a/b/nothing"] or "")
    assert found["a/b/file"] is None


def test_folders_that_link_to_each_other_end(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a/b").symlink_to("../b")
    (tmp_path / "b/a").symlink_to("../a")
    assert all(obstacle and "loop" in obstacle for obstacle in listed(tmp_path).values())


def test_a_snapshot_of_a_hub_cache_may_link_to_its_blobs_and_no_further(tmp_path):
    repository = tmp_path / "models--org--name"
    other = tmp_path / "models--org--other"
    write(repository, blobs__abc="weights", snapshots__123__config="{}")
    write(other, blobs__secret="key")
    (repository / "snapshots/123/model").symlink_to("../../blobs/abc")
    (repository / "snapshots/123/stolen").symlink_to("../../../models--org--other/blobs/secret")
    found = listed(repository / "snapshots/123")
    assert found["model"] is None
    assert "leads out" in (found["stolen"] or "")
    with open_package(repository / "snapshots/123") as package:
        assert package.open("model").read_at(0, 99) == b"weights"


def test_a_link_that_is_swapped_after_the_listing_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("key")
    write(tmp_path, package__file="x", package__sub__file="y")
    with open_package(tmp_path / "package") as package:
        (tmp_path / "package/file").unlink()
        (tmp_path / "package/file").symlink_to("../secret")
        (tmp_path / "package/sub/file").unlink()
        (tmp_path / "package/sub").rmdir()
        (tmp_path / "package/sub").symlink_to("..")
        (tmp_path / "file").write_text("key")
        for path in ("file", "sub/file"):
            with pytest.raises(AccessDenied):
                package.open(path)


def test_a_file_that_becomes_a_pipe_does_not_block(tmp_path):
    write(tmp_path, file="x")
    with open_package(tmp_path) as package:
        (tmp_path / "file").unlink()
        os.mkfifo(tmp_path / "file")
        with pytest.raises(AccessDenied):
            package.open("file")


def test_a_file_that_shrinks_is_damaged(tmp_path):
    write(tmp_path, file="x" * 100)
    with open_package(tmp_path) as package:
        reader = package.open("file")
        os.truncate(tmp_path / "file", 10)
        with pytest.raises(Damaged):
            reader.read_at(0, 100)


def test_more_files_than_descriptors(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_MAX_HELD", 3)
    for index in range(8):
        (tmp_path / f"{index}").write_text(f"content {index}")
    with open_package(tmp_path) as package:
        before = len(os.listdir("/proc/self/fd"))
        readers = [package.open(f"{index}") for index in range(8)]
        assert len(os.listdir("/proc/self/fd")) <= before + 3
        assert [r.read_at(8, 1) for r in readers] == [b"%d" % index for index in range(8)]
        (tmp_path / "7").unlink()
        (tmp_path / "7").write_text("another")
        with pytest.raises(Damaged):
            readers[7].read_at(0, 1)
        readers[0].close()
        readers[0].close()


def test_beyond_the_bound_on_members(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_MEMBERS", 5)
    for index in range(6):
        (tmp_path / f"{index}").mkdir()
    with pytest.raises(LimitExceeded):
        listed(tmp_path)


def test_deep_nesting_is_an_obstacle_not_a_crash(tmp_path):
    path = tmp_path
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(260):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    assert path.is_dir()
    found = listed(tmp_path)
    assert len(found) == 1
    assert "deep" in next(iter(found.values()))


def test_unreadable_things_are_obstacles(tmp_path, monkeypatch):
    write(tmp_path, file="x", closed__file="y")
    if os.geteuid() != 0:
        (tmp_path / "file").chmod(0)
        (tmp_path / "closed").chmod(0)
    else:  # root reads everything: let the system calls refuse
        real_open, real_access = os.open, os.access
        refuse = PermissionError(13, "Permission denied")

        def opened(path, flags, *args, **kwargs):
            if path == "closed" and not flags & getattr(os, "O_PATH", 0):
                raise refuse
            return real_open(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "access", lambda path, *a, **k: path != "file" and real_access(path, *a, **k))
    found = listed(tmp_path)
    if os.geteuid() != 0:
        (tmp_path / "closed").chmod(0o700)
    assert "permission" in (found["file"] or "").lower()
    assert "permission" in (found["closed"] or "").lower()


UNDECODABLE = b"\xff\xfe".decode("utf-8", "surrogateescape")
ODD_NAMES = ["a\nb", "a\\b", "\u202etxt.exe", "..x", " ", "a\tb", UNDECODABLE, "#", "-rf"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_kept_as_they_are(tmp_path, name):
    (tmp_path / name).write_text("content")
    with open_package(tmp_path) as package:
        assert [entry.path for entry in package.entries] == [name]
        assert package.open(name).read_at(0, 99) == b"content"
        assert len(package.manifest().entries) == 1


def test_what_is_not_listed_is_not_found(tmp_path):
    write(tmp_path, file="x")
    with open_package(tmp_path) as package:
        for path in ("other", "../file", "/etc/passwd", "./file", ""):
            with pytest.raises(NotFound):
                package.open(path)


def test_no_descriptor_is_left_behind(tmp_path):
    write(tmp_path, a__b="x", c="y")
    before = len(os.listdir("/proc/self/fd"))
    with open_package(tmp_path) as package:
        package.manifest()
    del package
    assert len(os.listdir("/proc/self/fd")) == before


TARGETS = [".", "..", "../..", "../../..", "d1", "d2", "../d1", "a", "../b", "f", "../f", "/", "/tmp"]
PLACES = ["", "d1/", "d1/d2/"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(PLACES), st.sampled_from(TARGETS)), max_size=8)
)
def test_whatever_links_there_are_nothing_outside_is_read(tmp_path_factory, links):
    base = tmp_path_factory.mktemp("links")
    (base / "f").write_text("outside")
    root = base / "root"
    (root / "d1/d2").mkdir(parents=True)
    (root / "d1/f").write_text("inside")
    for name, place, target in links:
        path = root / place / name
        if not os.path.lexists(path):
            path.symlink_to(target)
    with open_package(ModelRef("path", str(root)), options=SourceOptions()) as package:
        for entry in package.entries:
            if entry.obstacle is None:
                assert package.open(entry.path).read_at(0, 99) == b"inside"
            else:
                with pytest.raises(RegraftError):
                    package.open(entry.path)
