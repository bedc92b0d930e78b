"""Are the tokens of a graph those of the tokenizer that it was made of? On all of Unicode, and on hard texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.deployment.convert.text_graph.builder import GraphBuilder
from regraft.deployment.convert.text_graph.tables import SURROGATES, Tables
from regraft.errors import Unsupported
from regraft.runtime.hard_texts import hard_texts, texts_of
from regraft.runtime.text_model import TEXTS

if TYPE_CHECKING:
    from regraft.runtime.interface import Array
    from regraft.runtime.text import TextEncoder

_ROWS = 64
_WORDS, _TOKENS = 64, 4
"""Words of a text that is not to be cut, and tokens of each: mostly three, of a character between two letters."""
_QUOTED = 80
_STEP = 61
"""Prime, so that no pattern of the blocks of Unicode agrees with it."""


def prove_tokenizer(graph: GraphBuilder, ids: str, mask: str, encoder: TextEncoder, tables: Tables, where: str) -> str:
    """Compare the tokens of texts, one by one: hard ones, and those of every character with a fate of its own.

    Of the characters that have the most frequent fate, such as those that Unicode has not assigned, one in 61 is tried.

    Args:
        graph: with the tokenizer, and nothing behind it.
        ids, mask: names of its results.
        encoder: with the tokenizer that it was made of.
        tables: that were made of it.
        where: how errors name it.
    Returns:
        what was compared, in words.
    Raises:
        Unsupported: tokens of a text differ; it is quoted.
    """
    import numpy as np
    from onnx import TensorProto, helper

    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    taken = [helper.make_tensor_value_info(TEXTS, TensorProto.STRING, ["batch"])]
    made = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in (ids, mask)]
    alone = helper.make_graph(graph.nodes, "tokenizer", taken, made, graph.constants, value_info=graph.declared)
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 17), ("ai.onnx.ml", 2))]
    proto = helper.make_model(alone, opset_imports=[*opsets, helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    model = OnnxRuntimeModel(proto.SerializeToString(), where=where)
    characters, tokens = 0, 0
    uncut = max(1, min(_WORDS, encoder.max_tokens // _TOKENS - 1))
    try:
        for texts in _batches([*hard_texts(), *_spelt(encoder), *texts_of(_characters(tables), count=uncut)]):
            found = model({TEXTS: np.array(texts, dtype=object)})
            _compare(texts, found[ids], found[mask], encoder, where)
            tokens += int(found[mask].sum())
            characters += sum(map(len, texts))
    finally:
        model.close()
    return f"{characters} characters, which make {tokens} tokens"


def _characters(tables: Tables) -> Iterator[str]:
    yield from tables.classes
    for code in range(0, 0x110000, _STEP):
        if code not in SURROGATES and chr(code) not in tables.classes:
            yield chr(code)


def _spelt(encoder: TextEncoder) -> list[str]:
    """Special tokens as a text spells them, next to others and apart."""
    names = [token.content for token in encoder.tokenizer.get_added_tokens_decoder().values()]
    return ["".join(names), " ".join(names), *(f"a{name}b {name[:-1]} {name[1:]}" for name in names)] if names else []


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts of a kind together, so that padding is tried, too; the first alone."""
    yield list(texts[:1])
    for start in range(1, len(texts), _ROWS):
        yield list(texts[start : start + _ROWS])


def _compare(texts: Sequence[str], found: Array, mask: Array, encoder: TextEncoder, where: str) -> None:
    import numpy as np

    encodings = encoder.tokenize(texts)
    wanted = encoder.feeds(encodings)["input_ids"]
    lengths = np.array([len(encoding.ids) for encoding in encodings])
    real = np.arange(wanted.shape[1]) < lengths[:, None]
    if found.shape == wanted.shape and np.array_equal(found, wanted) and np.array_equal(mask, real):
        return
    for text, encoding, row, kept in zip(texts, encodings, found, mask, strict=True):
        tokens = row[kept == 1].tolist()
        if tokens != encoding.ids:
            at = next((i for i, pair in enumerate(zip(tokens, encoding.ids, strict=False)) if len(set(pair)) > 1), 0)
            raise Unsupported(
                f"the graph makes other tokens of {text[:_QUOTED]!r}, from token {at} on: "
                f"{tokens[at : at + 8]} in place of {encoding.ids[at : at + 8]}",
                where=where,
            )
    raise Unsupported(f"the graph pads {len(texts)} texts otherwise", where=where)
