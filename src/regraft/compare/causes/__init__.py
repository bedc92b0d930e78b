"""Causes: hypotheses about what is wrong in a region, accepted when they bring the divergence into the floor."""

from regraft.compare.causes.patching import NamedCause, named_cause

__all__ = ["NamedCause", "named_cause"]
