"""Energy counters: a tree as Linux lays it out, since most machines that run tests have none to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from regraft.errors import Unsupported
from regraft.runtime.energy import EnergyCounters


def zone(root: Path, name: str, kind: str, energy_uj: int, largest: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    return folder


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    one, two = zone(tmp_path, "intel-rapl:0", "package-0", 100), zone(tmp_path, "intel-rapl:1", "package-1", 900_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 50)
    zone(tmp_path, "intel-rapl:2", "psys", 7)
    counters = EnergyCounters(tmp_path)
    before = counters.read()
    (one / "energy_uj").write_text("400100\n")
    (two / "energy_uj").write_text("200000\n")  # it began again at 0
    assert counters.joules(before, counters.read()) == pytest.approx(0.4 + 0.3)


def test_no_counters_is_not_zero(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no energy counters"):
        EnergyCounters(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    with pytest.raises(Unsupported, match="cannot be read") as caught:
        EnergyCounters(tmp_path)
    assert "chmod" in caught.value.hint
