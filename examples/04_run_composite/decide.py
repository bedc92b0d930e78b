"""The part that is our own: who answers a message. The network says how it sounds, the rules say what that means here.

usage: decide.py PACKAGE [MESSAGE…]      PACKAGE as `regraft run` made it; without messages a few examples
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import numpy as np

import regraft as rg
from regraft.runtime.classifier import load_classifier

URGENT = re.compile(r"\b(refund|lawyer|chargeback|injur\w+)\b", re.IGNORECASE)
SURE = 0.75
"""Probability below which a person reads it: the network errs most where it is unsure."""
EXAMPLES = (
    "a wonderful film, thank you",
    "dull, and far too long; I want a refund",
    "it was there",
)


def decide(scores: np.ndarray, labels: Sequence[str], messages: Sequence[str]) -> list[str]:
    """Where each message goes: `lawyer's desk`, `person`, `thanks` or `complaints`.

    Args:
        scores: (N, 2) logits of the network.
        labels: its two classes, in the order of the columns.
        messages: (N) texts; what a rule decides, no network overrules.
    Returns:
        (N) desks.
    """
    odds = np.exp(scores - scores.max(1, keepdims=True))
    shares = odds / odds.sum(1, keepdims=True)  # (N, 2)
    positive = shares[:, list(labels).index("positive")]
    return [_desk(message, share) for message, share in zip(messages, positive, strict=True)]


def _desk(message: str, positive: float) -> str:
    if URGENT.search(message):
        return "lawyer's desk"
    if max(positive, 1 - positive) < SURE:
        return "person"
    return "thanks" if positive > 0.5 else "complaints"


def main(package: str, messages: Sequence[str]) -> None:
    """Load what the plan made, and decide."""
    with rg.open(package) as opened:
        classifier = load_classifier(opened)
    scores = classifier.logits(messages)
    for message, desk in zip(messages, decide(scores, classifier.labels, messages), strict=True):
        print(f"{desk:14}{message}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or EXAMPLES)
