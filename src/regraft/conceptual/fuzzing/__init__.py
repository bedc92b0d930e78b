"""Differential fuzzing of a re-implementation, with the original as oracle: docs/explanation/fuzzing.md."""

from regraft.conceptual.fuzzing.differential import Pair, fuzz
from regraft.conceptual.fuzzing.search import Counterexample, Fuzzed

__all__ = ["Counterexample", "Fuzzed", "Pair", "fuzz"]
