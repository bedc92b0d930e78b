"""Operators of ONNX that do what a tokenizer of word pieces does, for a batch of texts at once.

The texts become one row of symbols, in which boundaries stand between words and texts. From every symbol the longest
piece is looked for, at all of them at the same time, by walking the trie; then the pieces of each word are taken one
after the other, in all words at the same time. But for the splitting of a text into its characters (`Tokenizer` of
ONNX Runtime), all operators are ONNX's own, of opset 13 or later.
Source: Devlin et al., BERT (2019): words are cut greedily, the longest piece first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.convert.text_graph.builder import GraphBuilder
from regraft.deployment.convert.text_graph.tables import BOUNDARY, CONTINUATION, NOTHING, WORD, Tables

if TYPE_CHECKING:
    import onnx

_NO_CHARACTER = "no character"
"""Longer than one, so that no text has it as a character."""
_MOST_PASSES = 1 << 62


class Frame(msgspec.Struct, frozen=True):
    """What surrounds the pieces of a text.

    Attributes:
        before, after: special tokens.
        padding: token behind the end of shorter texts.
        most_pieces: longer texts are cut there.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    padding: int
    most_pieces: int


def add_tokenizer(graph: GraphBuilder, texts: str, tables: Tables, frame: Frame) -> tuple[str, str]:
    """Add a tokenizer.

    Args:
        graph: takes the nodes.
        texts: name of a tensor of strings, (B,).
        tables: of the tokenizer.
        frame: special tokens and limits.
    Returns:
        names of token ids and mask, int64 (B, T).
    """
    symbols, rows, ends = _symbols(graph, _classes(graph, texts, tables), tables)
    is_word = graph.Not(graph.Equal(symbols, graph.integers(BOUNDARY)))
    starts = _after_boundary(graph, is_word)
    sizes, pieces = _longest(graph, symbols, starts, tables)
    taken, tokens = _taken(graph, is_word, starts, sizes, pieces, tables)
    return _framed(graph, tokens, taken, rows, ends, frame)


def _classes(graph: GraphBuilder, texts: str, tables: Tables) -> str:
    """Class of every character, (B, L); tokens that a text spells are one character each."""
    from onnx import TensorProto

    letters = graph.Tokenizer(texts, mark=0, mincharnum=1, pad_value=_NO_CHARACTER, separators=[""])  # (B, L)
    # onnx 1.23 dies in the shape inference of LabelEncoder where its input has no type
    graph.declare(letters, TensorProto.STRING, ["batch", "characters"])
    listed = {**tables.classes, _NO_CHARACTER: tables.padding}
    classes = graph.LabelEncoder(
        letters, keys_strings=list(listed), values_int64s=list(listed.values()), default_int64=tables.usual
    )
    length = graph.part(graph.Shape(classes), 1, 2)
    found = classes
    for special in tables.specials:
        widened = graph.Pad(
            classes, graph.integers([0, 0, 0, len(special.classes)]), graph.integers(tables.padding), mode="constant"
        )
        matches = ""
        for at, wanted in enumerate(special.classes):
            shifted = graph.Slice(
                widened, graph.integers([at]), graph.Add(length, graph.integers([at])), graph.integers([1])
            )
            same = graph.Equal(shifted, graph.integers(wanted))
            matches = graph.And(matches, same) if matches else same
        found = _replaced(graph, found, matches, length, special.whole, len(special.classes), tables.gone)
    return found


def _replaced(graph: GraphBuilder, classes: str, matches: str, length: str, whole: int, size: int, gone: int) -> str:
    """Where a match begins stands the whole; the rest of it leaves nothing."""
    marks = graph.number(matches)
    widened = graph.Pad(marks, graph.integers([0, size, 0, 0]), graph.integers(0), mode="constant")
    covered = ""
    for back in range(1, size):
        start = graph.integers([size - back])
        shifted = graph.Slice(widened, start, graph.Add(length, start), graph.integers([1]))
        covered = graph.Add(covered, shifted) if covered else shifted
    begun = graph.Where(matches, graph.integers(whole), classes)
    return graph.Where(graph.truth(covered), graph.integers(gone), begun) if covered else begun


def _symbols(graph: GraphBuilder, classes: str, tables: Tables) -> tuple[str, str, str]:
    """All texts as one row of symbols (N,), the text that each is of (N,), and where each text ends (B,)."""
    width = tables.symbols.shape[1]
    spelt = graph.Gather(graph.integers(tables.symbols), classes)  # (B, L, K)
    batch, length = (graph.part(graph.Shape(classes), axis, axis + 1) for axis in (0, 1))
    wide = graph.Concat(batch, graph.Mul(length, graph.integers([width])), axis=0)
    flat = graph.Reshape(spelt, wide)  # (B, L × K)
    ended = graph.Pad(flat, graph.integers([0, 1, 0, 1]), graph.integers(BOUNDARY), mode="constant")  # (B, M)
    shape = graph.Shape(ended)
    count, last = graph.part(shape, 0, 1), graph.Sub(graph.part(shape, 1, 2), graph.integers([1]))
    texts = graph.Range(graph.integers(0), graph.Squeeze(count), graph.integers(1))
    of_text = graph.Expand(graph.Unsqueeze(texts, graph.integers([1])), shape)
    column = graph.Range(graph.integers(0), graph.Add(graph.Squeeze(last), graph.integers(1)), graph.integers(1))
    is_last = graph.Expand(graph.Unsqueeze(graph.number(graph.Equal(column, last)), graph.integers([0])), shape)
    every = graph.integers([-1])
    row = graph.Reshape(ended, every)
    kept = graph.Not(graph.Equal(row, graph.integers(NOTHING)))
    symbols = graph.Compress(row, kept, axis=0)
    rows = graph.Compress(graph.Reshape(of_text, every), kept, axis=0)
    ends = graph.places(graph.truth(graph.Compress(graph.Reshape(is_last, every), kept, axis=0)))
    return symbols, rows, ends


def _after_boundary(graph: GraphBuilder, is_word: str) -> str:
    """Where words begin, (N,): the first symbol of all is a boundary."""
    ahead = graph.Pad(graph.number(is_word), graph.integers([1, 0]), graph.integers(0), mode="constant")
    before = graph.Slice(ahead, graph.integers([0]), graph.integers([-1]), graph.integers([0]))
    return graph.And(is_word, graph.Not(graph.truth(before)))


def _longest(graph: GraphBuilder, symbols: str, starts: str, tables: Tables) -> tuple[str, str]:
    """The longest piece that begins at each symbol: its size and its token, (N,); 0 where there is none."""
    from onnx import TensorProto

    longest = tables.longest_piece
    widened = graph.Pad(symbols, graph.integers([0, longest]), graph.integers(BOUNDARY), mode="constant")
    root = graph.Where(starts, graph.integers(WORD), graph.integers(CONTINUATION))
    none = graph.Mul(symbols, graph.integers(0))
    goes_on = graph.truth(graph.integers(1))
    body = GraphBuilder("walk_")
    at, condition, node, size, piece = (body.name() for _ in range(5))
    length = body.Shape(node)
    start = body.Reshape(at, body.integers([1]))
    symbol = body.Slice(widened, start, body.Add(start, length), body.integers([0]))
    edge = body.Add(body.Mul(node, body.integers(tables.base)), symbol)
    keys, values = list(tables.edges), list(tables.edges.values())
    reached = body.LabelEncoder(edge, keys_int64s=keys, values_int64s=values, default_int64=NOTHING)
    ended = body.Gather(body.integers(tables.pieces), reached)  # the last row where the walk is over
    is_piece = body.Not(body.Equal(ended, body.integers(NOTHING)))
    sizes = body.Where(is_piece, body.Add(at, body.integers(1)), size)
    pieces = body.Where(is_piece, ended, piece)
    alive = body.Greater(
        body.ReduceMax(body.Concat(reached, body.integers([NOTHING]), axis=0), keepdims=0), body.integers(NOTHING)
    )
    kinds = [TensorProto.INT64] * 3
    walk = body.body("walk", [at, condition, node, size, piece], [alive, reached, sizes, pieces], kinds)
    _, found, tokens = graph.several("Loop", 3, graph.integers(longest), goes_on, root, none, none, body=walk)
    return found, tokens


def _taken(graph: GraphBuilder, is_word: str, starts: str, sizes: str, pieces: str, tables: Tables) -> tuple[str, str]:
    """Where a token stands, as booleans (N,), and which one, (N,)."""
    firsts = graph.places(starts)  # (W,)
    reached = graph.number(starts)
    walk = _steps(is_word, sizes)
    goes_on = graph.truth(graph.integers(1))
    begun, _ = graph.several("Loop", 2, graph.integers(_MOST_PASSES), goes_on, reached, firsts, body=walk)
    begins = graph.truth(begun)
    words = graph.Sub(graph.CumSum(reached, graph.integers(0)), graph.integers(1))  # (N,) −1 before the first
    behind = graph.Pad(graph.number(is_word), graph.integers([0, 1]), graph.integers(0), mode="constant")
    ends = graph.And(
        is_word,
        graph.Not(graph.truth(graph.Slice(behind, graph.integers([1]), graph.integers([_MOST_PASSES])))),
    )
    length = graph.Add(graph.Sub(graph.places(ends), firsts), graph.integers(1))  # (W,)
    too_long = graph.number(graph.Greater(length, graph.integers(tables.longest_word)))
    stuck = graph.And(begins, graph.Equal(sizes, graph.integers(0)))
    lost = graph.Compress(words, stuck, axis=0)  # words with a place that no piece begins at
    one_more = graph.Pad(too_long, graph.integers([0, 1]), graph.integers(0), mode="constant")  # for no word at all
    ones = graph.Add(graph.Mul(lost, graph.integers(0)), graph.integers(1))
    is_lost = graph.truth(graph.Gather(graph.ScatterElements(one_more, lost, ones, axis=0), words))
    taken = graph.And(begins, graph.Or(starts, graph.Not(is_lost)))
    return taken, graph.Where(is_lost, graph.integers(tables.unknown), pieces)


def _steps(is_word: str, sizes: str) -> onnx.GraphProto:
    """Body of a loop: from the places where pieces begin to those where the next ones do."""
    from onnx import TensorProto

    body = GraphBuilder("step_")
    at, condition, begun, places = (body.name() for _ in range(4))
    size = body.Gather(sizes, places)
    beyond = body.Add(places, size)
    goes_on = body.And(body.Greater(size, body.integers(0)), body.Gather(is_word, beyond))
    following = body.Compress(beyond, goes_on, axis=0)
    ones = body.Add(body.Mul(following, body.integers(0)), body.integers(1))
    marked = body.ScatterElements(begun, following, ones, axis=0)
    more = body.Greater(body.Squeeze(body.Shape(following)), body.integers(0))
    kinds = [TensorProto.INT64] * 2
    return body.body("step", [at, condition, begun, places], [more, marked, following], kinds)


def _framed(graph: GraphBuilder, tokens: str, taken: str, rows: str, ends: str, frame: Frame) -> tuple[str, str]:
    """Ids and mask, (B, T): each text's tokens between the special ones, cut and padded."""
    count = graph.CumSum(graph.number(taken), graph.integers(0))  # (N,) tokens so far
    total = graph.Gather(count, ends)  # (B,) up to the end of each text
    earlier = graph.Slice(
        graph.Pad(total, graph.integers([1, 0]), graph.integers(0), mode="constant"),
        graph.integers([0]),
        graph.integers([-1]),
    )
    held = graph.Min(graph.Sub(total, earlier), graph.integers(frame.most_pieces))  # (B,)
    place = graph.Sub(graph.Sub(count, graph.integers(1)), graph.Gather(earlier, rows))  # (N,) within its text
    kept = graph.And(taken, graph.Less(place, graph.integers(frame.most_pieces)))
    before, after = len(frame.before), len(frame.after)
    room = graph.Max(
        graph.Add(graph.ReduceMax(held, keepdims=0), graph.integers(before + after)), graph.integers(1)
    )  # T
    columns = graph.Range(graph.integers(0), room, graph.integers(1))
    ended = graph.Unsqueeze(graph.Add(held, graph.integers(before)), graph.integers([1]))  # (B, 1)
    behind = graph.Sub(columns, ended)  # (B, T) from 0 at the first token after the pieces
    table = graph.integers([*frame.after, frame.padding])
    ids = graph.Gather(table, graph.Min(graph.Max(behind, graph.integers(0)), graph.integers(after)))
    if before:
        opening = graph.Gather(graph.integers(frame.before), graph.Min(columns, graph.integers(before - 1)))
        ids = graph.Where(graph.Less(columns, graph.integers(before)), opening, ids)
    where = graph.Concat(
        graph.Unsqueeze(graph.Compress(rows, kept, axis=0), graph.integers([1])),
        graph.Unsqueeze(graph.Add(graph.Compress(place, kept, axis=0), graph.integers(before)), graph.integers([1])),
        axis=1,
    )
    ids = graph.ScatterND(ids, where, graph.Compress(tokens, kept, axis=0))
    return ids, graph.number(graph.Less(behind, graph.integers(after)))
