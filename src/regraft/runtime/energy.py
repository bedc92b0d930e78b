"""Energy that the processor's own counters saw: RAPL through Linux powercap.

Source: Linux, Documentation/power/powercap/powercap.rst: `energy_uj`, `max_energy_range_uj`; zones `intel-rapl:N` are
processor packages (AMD's, too), those below them (`intel-rapl:0:0`) parts of these, which are not added again.
"""

from __future__ import annotations

from pathlib import Path

from regraft.errors import Unsupported

ROOT = Path("/sys/class/powercap")
_ZONES = "intel-rapl:[0-9]*"
_PACKAGE = "package"


class EnergyCounters:
    """The counters of all processor packages: of everything that runs on them, idle power included.

    Args:
        root: where powercap lies.
    Raises:
        Unsupported: there are none, or only the administrator may read them.
    """

    def __init__(self, root: Path = ROOT) -> None:
        zones = [zone for zone in sorted(root.glob(_ZONES)) if zone.name.count(":") == 1]
        self._zones = [zone for zone in zones if _text(zone / "name").startswith(_PACKAGE)]
        if not self._zones:
            raise Unsupported(f"no energy counters of the processor under {root}", where=str(root))
        try:
            self.read()
        except (OSError, ValueError) as error:
            raise Unsupported(
                f"the energy counters cannot be read: {error}",
                where=str(root),
                hint=f"sudo chmod a+r {root}/intel-rapl:*/energy_uj, if you accept that others may read them",
            ) from error
        self._ranges = [int(_text(zone / "max_energy_range_uj") or 0) for zone in self._zones]

    def read(self) -> list[int]:
        """Microjoules so far, one number a package; they begin again at 0 now and then."""
        return [int((zone / "energy_uj").read_text()) for zone in self._zones]

    def joules(self, before: list[int], after: list[int]) -> float:
        """Energy between two readings, less than one turn of a counter apart."""
        used = 0
        for start, end, size in zip(before, after, self._ranges, strict=True):
            used += end - start if end >= start else end - start + size
        return used * 1e-6


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
