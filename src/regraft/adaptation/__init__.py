"""Adaptation: which trained model serves this task, and a package of one's own made from it."""
