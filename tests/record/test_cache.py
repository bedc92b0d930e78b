"""Entries come back as they were written or not at all; the least recently used go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regraft.record.cache import Cache, open_cache


def test_an_entry_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "floors")
    assert cache.get("a") is None
    assert cache.put("a", [b"one ", memoryview(b"two")])
    found = cache.get("a")
    assert found is not None
    with found:
        assert found.read() == b"one two"
    assert [path.name for path in (tmp_path / "floors").iterdir()] == ["a"], "no temporary file is left"


@pytest.mark.parametrize("place", [0, 9, 17, 25, -1])
def test_a_damaged_entry_is_none(tmp_path: Path, place: int) -> None:
    cache = Cache(tmp_path)
    cache.put("a", [b"some content"])
    content = bytearray((tmp_path / "a").read_bytes())
    content[place] ^= 1
    (tmp_path / "a").write_bytes(content)
    assert cache.get("a") is None
    (tmp_path / "a").write_bytes(content[:10])
    assert cache.get("a") is None
    assert cache.put("a", [b"again"]), "and is written anew"
    found = cache.get("a")
    assert found is not None
    with found:
        assert found.read() == b"again"


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=1000)
    for age, name in ((30, "old"), (20, "used"), (10, "new")):
        cache.put(name, [bytes(300)])
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    used = cache.get("used")
    assert used is not None
    used.close()
    cache.put("next", [bytes(300)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "next", "used"]


def test_an_entry_that_would_push_out_the_others_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=1000)
    cache.put("small", [bytes(100)])
    assert not cache.put("large", [bytes(600)])
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "floors")
    assert not cache.put("a", [b"content"])
    assert cache.get("a") is None


def test_the_environment_names_the_folder_and_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path))
    monkeypatch.setenv("REGRAFT_CACHE_MB", "7")
    cache = open_cache("floors")
    assert cache is not None
    assert (cache.folder, cache.limit_bytes) == (tmp_path / "floors", 7 << 20)
    monkeypatch.setenv("REGRAFT_CACHE_MB", "0")
    assert open_cache("floors") is None
