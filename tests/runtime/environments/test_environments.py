"""Environments of their own: what is not made is named, what cannot be made leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.errors import MissingEnvironment, NetworkFailure, UsageError
from regraft.runtime.environments import environment_python, environments, has_environment, make_environment


def test_one_that_was_not_made_says_how_it_is_made() -> None:
    assert "tensorflow" in environments()
    assert not has_environment("tensorflow")
    with pytest.raises(MissingEnvironment) as raised:
        environment_python("tensorflow")
    assert raised.value.hint == "regraft doctor --environment tensorflow"


def test_a_name_that_is_none_is_told_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="'tensorflo'") as raised:
        make_environment("tensorflo")
    assert "tensorflow" in raised.value.hint


def test_what_cannot_be_installed_leaves_nothing_that_looks_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(NetworkFailure, match=r"pip could not install it: .*tensorflow"):
        make_environment("tensorflow")
    assert not has_environment("tensorflow")
    assert [path.name for path in (tmp_path / "cache" / "environments").iterdir() if path.is_dir()] == []


def test_every_list_is_pinned() -> None:
    """An environment that resolves to something else tomorrow would convert otherwise tomorrow."""
    from importlib import resources

    for name in environments():
        text = (resources.files("regraft.runtime.environments") / f"{name}.txt").read_text()
        pins = [line.partition(";")[0].strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
        assert pins
        assert all(line.count("==") == 1 and not set(line) & set("<>~* ") for line in pins), name
