from __future__ import annotations

import random

from tests.trust.fuzzing import NAMES, damaged, judge, seeds


def test_damaged_samples_are_judged_without_a_fault():
    rng = random.Random(7)  # reproducible; tools/fuzz.py searches further
    for number, (name, content) in enumerate(seeds()):
        if number % 4 == 0:
            judge(damaged(content, rng), name if rng.random() < 0.7 else rng.choice(NAMES))


def test_random_bytes_under_every_name_are_judged_without_a_fault():
    rng = random.Random(1)
    for name in NAMES:
        for length in (0, 1, 3, 17, 300):
            judge(rng.randbytes(length), name)
