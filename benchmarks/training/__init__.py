"""Trainings with faults planted in one stage, and correct ports of them."""
