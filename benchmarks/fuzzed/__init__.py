"""Re-implementations with faults that ordinary inputs and trained weights do not show."""

from benchmarks.fuzzed.faults import FAULTS, Fault

__all__ = ["FAULTS", "Fault"]
