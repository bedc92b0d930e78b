"""pytest: the fixture `assert_equivalent`. Found through the entry point `pytest11`; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from regraft import testing

if TYPE_CHECKING:
    from regraft.record.evidence import Evidence


@pytest.fixture(scope="session")
def assert_equivalent() -> Callable[..., Evidence]:
    """`regraft.testing.assert_equivalent`: fails unless rounding explains every difference between two networks."""
    return testing.assert_equivalent
