from __future__ import annotations

import os

from regraft.workflow import memory
from regraft.workflow.memory import memory_bound


def test_the_bound_is_most_of_what_the_machine_has():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory_bound() <= 0.85 * total


def test_a_container_bounds_it_further_and_no_limit_is_none(monkeypatch, tmp_path):
    (tmp_path / "tight").write_text("1000000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "_CGROUPS", tuple(str(tmp_path / name) for name in ("none", "tight", "missing")))
    assert memory_bound() == 850_000
