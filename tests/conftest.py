"""Fixtures shared by all tests: real assets, and a store of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

ROOT = Path(__file__).parent.parent
ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS", ROOT / ".cache/assets/x"))
ENVIRONMENTS = Path(platformdirs.user_cache_dir("regraft", appauthor=False)) / "environments"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs under test inherit it, and Ctrl-C is tested


@pytest.fixture(scope="session")
def asset() -> Callable[[str, str, str], Path]:
    """Folder of an unpacked registry package: `asset("pypi", "silero-vad", "6.2.3")`."""

    def folder(registry: str, package: str, version: str) -> Path:
        path = ASSETS / f"{registry}-{package}-{version}".replace("/", "_").replace("@", "_")
        if not path.is_dir():
            pytest.fail(f"{path} is missing: run `make assets`")
        return path

    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[str], Path]:
    """Make an environment of the user's visible to a test, whose cache is its own; returns its interpreter."""
    from regraft.errors import MissingEnvironment
    from regraft.runtime.environments import environment_python

    def made(name: str) -> Path:
        cache = tmp_path / "cache"
        cache.mkdir(exist_ok=True)
        (cache / "environments").symlink_to(ENVIRONMENTS)
        try:
            return environment_python(name)
        except MissingEnvironment:
            pytest.fail(f"the environment {name} is missing: run `make environments`")

    return made


@pytest.fixture
def large_environment(tmp_path: Path) -> Callable[[str], Path]:
    """As `environment`, for one that `make environments` leaves out; a test without it is skipped."""
    from regraft.runtime.environments import environment_python, has_environment

    def made(name: str) -> Path:
        cache = tmp_path / "cache"
        cache.mkdir(exist_ok=True)
        (cache / "environments").symlink_to(ENVIRONMENTS)
        if not has_environment(name):
            pytest.skip(f"the environment {name} was not made: regraft doctor --environment {name}")
        return environment_python(name)

    return made


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
