from __future__ import annotations

from pathlib import Path

import pytest

from regraft.errors import AccessDenied, UsageError
from regraft.package.product import new_package


def test_a_package_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_package(target) as folder:
        (folder / "weights").write_bytes(b"1")
        assert not target.exists()
    assert (target / "weights").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), AccessDenied)],
)
def test_nothing_is_left_after_an_error(tmp_path: Path, raised: BaseException, expected: type[BaseException]) -> None:
    def make() -> None:
        with new_package(tmp_path / "made") as folder:
            (folder / "weights").write_bytes(b"1")
            raise raised

    with pytest.raises(expected):
        make()
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError), new_package(tmp_path):
        pass
    with pytest.raises(UsageError), new_package(tmp_path / "no" / "folder"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"
