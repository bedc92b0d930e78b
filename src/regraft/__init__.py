"""Regraft: reuse a trained network that somebody else made, with evidence at every cut."""

__version__ = "0.1.0"
