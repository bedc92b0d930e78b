"""What a tokenizer of word pieces does, as tables: each character's part in a text, and the trie of the pieces.

Nothing of the tokenizer is written a second time: what becomes of every character of Unicode is asked of the tokenizer
itself. That tells all only where a character's fate does not hang on its neighbours, so that normalisers and splitters
of other kinds are refused.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

BOUNDARY, STRANGE = 0, 1
"""Symbols: what lies between two words, and a character that is in no piece."""
NOTHING = -1
WORD, CONTINUATION = 0, 1
"""Nodes of the trie at which the first piece of a word begins, and every other one."""
_FIRST = 2
_NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFD", "StripAccents"})
_SPLITTERS = frozenset({"BertPreTokenizer", "WhitespaceSplit"})
SURROGATES = range(0xD800, 0xE000)
"""Code points that are no characters."""
_PROBE = "a"
_MARK = "\U0001f600"
"""No normaliser of these kinds changes it, or makes it of anything else."""
_BLOCK = 256
_MOST_ADDED, _MOST_SPELT = 256, 4096
"""Tokens that stand for themselves, and their characters in all: each character is nodes of the graph."""
_ENDLESS = 1 << 62
"""Longer than any word; tokenizers count up to 2⁶⁴ − 1, ONNX up to 2⁶³ − 1."""


class Special(msgspec.Struct, frozen=True):
    """A token that stands for itself where a text spells it, as `[MASK]`.

    Attributes:
        classes: of its characters, one after the other.
        whole: class that takes the place of the first, once all of them were found.
    """

    classes: tuple[int, ...]
    whole: int


class Tables(msgspec.Struct, frozen=True):
    """A tokenizer.

    Attributes:
        classes: character → its class, for all but the most frequent class.
        usual: class of all other characters.
        padding: class of what is no character; it means a boundary.
        gone: class of what leaves nothing behind.
        symbols: (classes, K) what characters of a class become; `NOTHING` fills rows up.
        specials: tokens that texts may spell.
        base: an edge is node × base + symbol.
        edges: edge → node.
        pieces: (nodes + 1,) token that ends at a node, `NOTHING` for none; the last row is of no node at all.
        longest_piece: in symbols.
        longest_word: in symbols; longer ones are unknown.
        unknown: token of words that the pieces do not cover.
    """

    classes: dict[str, int]
    usual: int
    padding: int
    gone: int
    symbols: NDArray[np.int64]
    specials: tuple[Special, ...]
    base: int
    edges: dict[int, int]
    pieces: NDArray[np.int64]
    longest_piece: int
    longest_word: int
    unknown: int


def tables_of(tokenizer: Tokenizer, where: str = "") -> Tables:
    """The tables of a tokenizer.

    Args:
        tokenizer: of the library tokenizers.
        where: how errors name it.
    Raises:
        Unsupported: its model, normaliser or splitter is of another kind, it adds too many tokens, or its vocabulary
            lacks the token of unknown words; the message says which.
    """
    import numpy as np

    described: dict[str, Any] = json.loads(tokenizer.to_str())
    model = described["model"]
    if model["type"] != "WordPiece":
        raise Unsupported(f"a tokenizer of the kind {model['type']} is no graph yet; WordPiece is", where=where)
    _require_plain(described, where)
    vocabulary: dict[str, int] = model["vocab"]
    if not any(vocabulary):
        raise Unsupported("the tokenizer's vocabulary is empty", where=where)
    if model["unk_token"] not in vocabulary:
        raise Unsupported(
            f"the token of unknown words, {model['unk_token'][:60]!r}, is not in the vocabulary", where=where
        )
    prefix: str = model["continuing_subword_prefix"]
    letters = sorted({letter for piece in vocabulary for letter in piece})
    symbol_of = {letter: number for number, letter in enumerate(letters, _FIRST)}
    added = [token for token in described["added_tokens"] if token["content"]]
    rows = _Rows(frozenset(letter for token in added for letter in token["content"]))
    padding, gone = rows.number((BOUNDARY,)), rows.number(())
    fates = dict(_fates(tokenizer, symbol_of))
    _require_order(described["normalizer"], fates, where)
    classes = {letter: rows.number(symbols, letter) for letter, symbols in fates.items()}
    specials = []
    for number, token in enumerate(added, _FIRST + len(letters)):
        whole = rows.number((BOUNDARY, number, BOUNDARY))
        specials.append(Special(tuple(classes[letter] for letter in token["content"]), whole))
    base = _FIRST + len(letters) + len(added)
    trie = _Trie(base)
    for piece, token in vocabulary.items():
        trie.add(WORD, [symbol_of[letter] for letter in piece], token)
        if piece.startswith(prefix) and len(piece) > len(prefix):
            trie.add(CONTINUATION, [symbol_of[letter] for letter in piece[len(prefix) :]], token)
    for number, one in enumerate(added, _FIRST + len(letters)):
        trie.add(WORD, [number], one["id"])
    counts = np.bincount(list(classes.values()))
    usual = int(counts.argmax())
    return Tables(
        classes={letter: number for letter, number in classes.items() if number != usual},
        usual=usual,
        padding=padding,
        gone=gone,
        symbols=rows.filled(),
        specials=tuple(specials),
        base=base,
        edges=trie.edges,
        pieces=np.array([*trie.pieces, NOTHING], dtype=np.int64),
        longest_piece=max(map(len, vocabulary)),
        longest_word=min(int(model["max_input_chars_per_word"]), _ENDLESS),
        unknown=vocabulary[model["unk_token"]],
    )


class _Rows:
    """Classes of characters: one for each row of symbols, and for each character that must be told from all others."""

    def __init__(self, distinct: frozenset[str]) -> None:
        self._distinct = distinct
        self._numbers: dict[tuple[tuple[int, ...], str], int] = {}

    def number(self, symbols: tuple[int, ...], letter: str = "") -> int:
        key = (symbols, letter if letter in self._distinct else "")
        return self._numbers.setdefault(key, len(self._numbers))

    def filled(self) -> NDArray[np.int64]:
        import numpy as np

        width = max(len(symbols) for symbols, _ in self._numbers)
        table = np.full((len(self._numbers), width), NOTHING, dtype=np.int64)
        for row, (symbols, _) in enumerate(self._numbers):
            table[row, : len(symbols)] = symbols
        return table


class _Trie:
    """Pieces by their symbols, from two roots."""

    def __init__(self, base: int) -> None:
        self.edges: dict[int, int] = {}
        self.pieces = [NOTHING, NOTHING]
        self._base = base

    def add(self, root: int, symbols: list[int], token: int) -> None:
        node = root
        for symbol in symbols:
            edge = node * self._base + symbol
            if edge not in self.edges:
                self.edges[edge] = len(self.pieces)
                self.pieces.append(NOTHING)
            node = self.edges[edge]
        self.pieces[node] = token


def _fates(tokenizer: Tokenizer, symbol_of: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every character that a text can hold, with the symbols that it becomes."""
    fates: dict[str, tuple[int, ...]] = {}
    for letters in _blocks():
        normals = _normals(tokenizer, letters)
        parts = sorted({part for normal in normals for part in normal})
        kinds = _kinds(tokenizer, parts, symbol_of)
        for letter, normal in zip(letters, normals, strict=True):
            if normal not in fates:
                fates[normal] = _joined([symbol for part in normal for symbol in kinds[part]])
            yield letter, fates[normal]


def _blocks() -> Iterator[str]:
    """All characters, in groups of neighbours, which mostly have the same fate."""
    for start in range(0, 0x110000, _BLOCK):
        if start not in SURROGATES:
            yield "".join(map(chr, range(start, start + _BLOCK)))


def _normals(tokenizer: Tokenizer, letters: str) -> list[str]:
    """What the normaliser makes of each; all in one call, between marks that it leaves alone."""
    normalizer = tokenizer.normalizer
    if normalizer is None:
        return list(letters)
    normals: list[str] = normalizer.normalize_str(_MARK.join(letters)).split(_MARK)
    if len(normals) != len(letters):  # the mark is among them
        normals = [normalizer.normalize_str(letter) for letter in letters]
    return normals


def _kinds(tokenizer: Tokenizer, letters: list[str], symbol_of: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Between two letters: does the splitter drop it, set it apart, or leave it in the word?"""
    together = tokenizer.pre_tokenizer.pre_tokenize_str(_PROBE + "".join(letters) + _PROBE)
    kinds: dict[str, tuple[int, ...]] = {letter: (symbol_of.get(letter, STRANGE),) for letter in letters}
    if len(together) == 1:
        return kinds
    for letter, (symbol, *_) in list(kinds.items()):
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(_PROBE + letter + _PROBE)
        if len(pieces) > 1:
            is_dropped = all(piece == _PROBE for piece, _ in pieces)
            kinds[letter] = (BOUNDARY,) if is_dropped else (BOUNDARY, symbol, BOUNDARY)
    return kinds


def _joined(symbols: list[int]) -> tuple[int, ...]:
    """One boundary says as much as several."""
    return tuple(
        symbol for at, symbol in enumerate(symbols) if symbol != BOUNDARY or at == 0 or symbols[at - 1] != BOUNDARY
    )


def _require_plain(described: Mapping[str, Any], where: str) -> None:
    """Every part is of a kind that looks at one character at a time."""
    normalizer = described["normalizer"] or {"type": "Sequence", "normalizers": []}
    parts = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    for part in parts:
        if part["type"] not in _NORMALIZERS:
            raise Unsupported(f"a normaliser of the kind {part['type']} is no graph yet", where=where)
    splitter = (described["pre_tokenizer"] or {"type": "none"})["type"]
    if splitter not in _SPLITTERS:
        raise Unsupported(f"a splitter of the kind {splitter} is no graph yet", where=where)
    _require_separate([token for token in described["added_tokens"] if token["content"]], where)


def _require_separate(added: Sequence[Mapping[str, Any]], where: str) -> None:
    """Tokens that stand for themselves are few, are looked for as they are spelt, and share nothing."""
    spelt = sum(len(token["content"]) for token in added)
    if len(added) > _MOST_ADDED or spelt > _MOST_SPELT:
        raise Unsupported(
            f"{len(added)} tokens of {spelt} characters are added to the pieces; "
            f"{_MOST_ADDED} of {_MOST_SPELT} are the most that become a graph",
            where=where,
        )
    for token in added:
        if token["normalized"] or token["single_word"]:
            how = "after normalisation" if token["normalized"] else "as a whole word"
            raise Unsupported(
                f"the token {token['content'][:60]!r} is looked for {how}, which is no graph yet", where=where
            )
    names = [token["content"] for token in added]
    for one in names:
        for other in names:
            if _overlap(one, other):
                raise Unsupported(f"the tokens {one[:60]!r} and {other[:60]!r} may overlap in a text", where=where)


def _overlap(one: str, other: str) -> bool:
    """Could a text hold both with a character in common?"""
    ends = range(1, min(len(one), len(other)) + (one != other))
    return (one != other and other in one) or any(one.endswith(other[:size]) for size in ends)


def _require_order(normalizer: Mapping[str, Any] | None, fates: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Decomposition sorts marks that combine: where one of them is in a piece, neighbours count."""
    if normalizer is None or not ("NFD" in json.dumps(normalizer) or _strips(normalizer)):
        return
    for letter, symbols in fates.items():
        if unicodedata.combining(letter) and any(symbol >= _FIRST for symbol in symbols):
            raise Unsupported(f"pieces hold the combining mark U+{ord(letter):04X}, whose order counts", where=where)


def _strips(normalizer: Mapping[str, Any]) -> bool:
    """Does BERT's normaliser decompose? Where nobody says, it does if it lowers."""
    stated = normalizer.get("strip_accents")
    return bool(normalizer.get("lowercase") if stated is None else stated)
