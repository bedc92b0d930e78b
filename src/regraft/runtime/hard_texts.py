"""Texts at which tokenizers part: made up, the same every time, in every script that Unicode has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from regraft.runtime.feeds import FeedCase

_A_BATCH, _MOST = 8, 64
"""Texts a pass, and of the user's own in all."""

PLAIN = (
    "The quick brown fox jumps over the lazy dog.",
    "a",
    "It's 9:45 a.m. -- aren't we late?",
    "naïve café, Ångström, ÅNGSTRÖM",
    "semi-supervised pre-training of sub-word units",
    "unbelievably internationalization antidisestablishmentarianism",
)
"""Ordinary texts of several lengths."""

HARD = (
    "",
    " ",
    "\t\r\n \u00a0\u2003\u3000",
    "a\u0000b\u0007c\u200bd\ufeffe\u00adf\ufffdg",
    "line\u2028paragraph\u2029next\u0085line\x0bvertical\x0cfeed",
    "😀 a😀b 👩‍👩‍👧 🏳️‍🌈 ☺️ 🇩🇪 1️⃣",
    "e\u0301 \u0301 a\u0323\u0302 q\u0307\u0323 \u1e69 İstanbul ıI ẞß ǅ ﬁ ŉ ΑΣ ΌΣΟΣ",
    "漢字かな交じり文 한국어 각\u1100\u1161\u11a8 ไทย हिन्दी क़ اَلعَرَبِيَّة עִבְרִית",
    "𠀀𪚥 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 Ⅷ ½ ² ™ ℡ ｆｕｌｌ",
    "don't… “quoted” ‘single’ — en–dash ‐ ­ ¿qué? §1 €5 £3 x^2 `code` a_b $x =+<>|~",
    "[CLS] and [SEP] and [MASK][PAD][UNK] [cls] [ CLS ] [[CLS]] [CLS",
    "<s> </s> <pad> <unk> <mask> <|endoftext|>",
    "##ing un ##able # #hash ##",
    "a" * 99 + " " + "b" * 100 + " " + "c" * 101 + " " + "d" * 250,
    "xyzzyqwrt abcxyz\u2603def zqj\U0001f600",
    "C[C@H](N)C(=O)O.Cl>>O=C1CCCN1 c1ccccc1Br [Na+].[OH-]",
    "0123456789 3.14159 1,000,000 0x7f 1e-9",
    "https://example.org/a?b=c&d=%20#e user@example.org",
)
"""Control characters, marks, emoji, scripts without spaces, special tokens that are spelt, words that are too long."""

LONG = "word " * 700 + "end"
"""Longer than what most networks take."""


def hard_texts() -> list[str]:
    """Ordinary texts, hard ones, and one that is cut."""
    return [*PLAIN, *HARD, LONG, HARD[7] * 40]


def texts_of(characters: Iterable[str], *, count: int) -> Iterator[str]:
    """Texts that hold these characters, each between two letters, `count` a text."""
    words = (f"a{character}b" for character in characters)
    while text := " ".join(itertools.islice(words, count)):
        yield text


def string_cases(name: str, texts: Sequence[str] = ()) -> Iterator[FeedCase]:
    """Feeds of strings: texts of the user's own in batches, or made-up ones.

    Of more than 64 texts the first 64 are taken, and the names of the cases say of how many.

    Args:
        name: of the model's input, (B,).
        texts: the user's own; none for made-up ones.
    """
    if texts:
        of_all = f" of {len(texts)}" if len(texts) > _MOST else ""
        for start in range(0, min(len(texts), _MOST), _A_BATCH):
            some = texts[start : start + _A_BATCH]
            yield _case(f"texts {start + 1} to {start + len(some)}{of_all}", name, some, "data")
        return
    yield _case("ordinary texts", name, PLAIN, "ordinary")
    yield _case("one text", name, PLAIN[:1], "ordinary")
    for start in range(0, len(HARD), _A_BATCH):
        some = HARD[start : start + _A_BATCH]
        yield _case(f"hard texts {start + 1} to {start + len(some)}", name, some, "hard")
    yield _case("an empty text", name, HARD[:1], "hard")
    yield _case("a text that is cut", name, (LONG, PLAIN[0]), "hard")


def _case(told: str, name: str, texts: Sequence[str], values: str) -> FeedCase:
    import numpy as np

    return FeedCase(told, {name: np.array(texts, dtype=np.str_)}, values, {"batch": len(texts)})
