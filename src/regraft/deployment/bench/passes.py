"""What one timed pass is: what a package does with strings, pictures or arrays when it is used, to its last output."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.deployment.bench.inputs import MADE_UP, made_up_feeds, own_feeds
from regraft.errors import Damaged, Unsupported
from regraft.package.package import Package, open_package
from regraft.package.sources.interface import SourceOptions
from regraft.record.store import open_store
from regraft.runtime.measure import batch_of
from regraft.runtime.served_model import SCHEMES, served_model
from regraft.runtime.text_model import takes_strings

if TYPE_CHECKING:
    from tokenizers import Encoding

    from regraft.deployment.bench.messages import Start
    from regraft.runtime.image import ImagePreprocessing
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.pipeline import Description
    from regraft.runtime.text import TextEncoder

DEFAULT_TEXTS = (
    "It works.",
    "The parcel arrived two days late, but the shop apologised and refunded the postage.",
    "Would you recommend the smaller model to somebody who only travels at the weekend?",
    "I had expected a comedy; what I got was a slow, careful film about two brothers and a farm that neither wants.",
    "Not worth the money.",
    "Please close the window when it rains, and leave the key with the neighbour on the second floor.",
    "The committee postponed its decision because three of its seven members had not received the report in time.",
    "After an hour of reading we found that the switch had been in the wrong position all along.",
    (
        "Long lists, as of spare parts (bolts M4 and M6, two washers, a seal, the left bracket, four clips, one hinge, "
        "the spring with its pin, and a tube of grease), were read aloud twice, by the buyer and by the seller."
    ),
)
"""Texts of several lengths, for when the user gives none."""
PHOTOGRAPH = (480, 640, 3)
"""(H, W, 3) of a picture that is made up where the package does not say which ones it was made for."""
_LOGITS = "logits"
_PICTURES = 8
"""To make up: they lie in the memory of the process that is measured."""
_MAX_TEXTS = 2000


class Passes(msgspec.Struct, frozen=True):
    """A loaded model and how it is fed.

    Attributes:
        model: of any runtime.
        of: rows of a batch, and their length or None for that of the inputs → one pass over the next so many inputs.
        inputs: what it is fed with, for a human; once a pass was made, also what comes out.
        is_made_up: the inputs are not the user's.
        own_batch: rows of a pass when the user's arrays fix it.
    """

    model: Any
    of: Callable[..., Callable[[], object]]
    inputs: Callable[[], str]
    is_made_up: bool
    own_batch: int | None = None


class _Outcome:
    """What comes out of the passes: a network may not say so before the first, which must not be made while it loads.

    Attributes:
        kind: `logits` of a head, `vectors` of an encoder, or other `outputs`; empty until a pass was made.
    """

    def __init__(self) -> None:
        self.kind = ""

    def beside(self, inputs: str) -> str:
        """What goes in, and what comes out as far as it is known."""
        return f"{inputs}, to {self.kind}" if self.kind else inputs


def load_passes(start: Start) -> Passes:
    """Load what is to be measured, with its head, its tokenizer or its preparation of pictures.

    A text package is measured from strings, an image package that says how pictures are prepared from pictures;
    both to what they answer with: logits where they have a head, else vectors. Arrays of the user's go straight
    into the network.

    Raises:
        RegraftError: it cannot be loaded.
    """
    if start.ref.scheme in SCHEMES:
        if start.precision is not None:
            raise Unsupported("a server cannot be told a precision", where=str(start.ref), hint="leave out --precision")
        return _array_passes(served_model(start.ref, offline=start.offline), start)
    if start.ref.scheme == "py":
        from regraft.runtime.torch_factory import model_from_factory

        model = model_from_factory(start.ref.location, threads=start.threads, precision=start.precision)
        return _array_passes(model, start)
    store = open_store(Path(start.store)) if start.store else None
    with open_package(start.ref, options=SourceOptions(offline=start.offline, store=store)) as package:
        if start.feeds_file is None and start.path is not None:
            found = _whole_package(package, start, start.path)
            if found is not None:
                return found
        return _array_passes(_loaded(package, start), start)


def _whole_package(package: Package, start: Start, path: str) -> Passes | None:
    """Passes from strings or pictures; None for a package that says nothing about either."""
    if takes_strings(package, path):
        return _string_passes(_loaded(package, start), start)
    if _has_tokenizer(package, path):
        return _text_passes(_text_encoder(package, start, path), start)
    preprocessing = _preprocessing(package, start, path)
    if preprocessing is None:
        return None
    model = _loaded(package, start)
    if [len(port.shape or ()) for port in model.signature.inputs] != [4]:
        return _array_passes(model, start)
    _require_no_texts(start, model.where)
    description = _description(package)
    return _picture_passes(model, preprocessing, description.picture_shape if description else (), start.seed)


def _preprocessing(package: Package, start: Start, path: str) -> ImagePreprocessing | None:
    """None also where it cannot be followed: the network can still be measured, on arrays."""
    from regraft.runtime.image import preprocessing_of
    from regraft.runtime.verified import VerifiedFiles

    with contextlib.suppress(Damaged, Unsupported):
        return preprocessing_of(VerifiedFiles(package, start.permit), path)
    return None


def _description(package: Package) -> Description | None:
    from regraft.runtime.pipeline import description_of

    with contextlib.suppress(Damaged):
        return description_of(package)
    return None


def _loaded(package: Package, start: Start) -> Model:
    from regraft.runtime import model_path
    from regraft.runtime.vouched import load_vouched

    return load_vouched(
        package,
        start.permit,
        code_loader=start.code_loader,
        path=start.path or model_path(package, runtime=start.runtime),
        runtime=start.runtime,
        threads=start.threads,
        precision=start.precision,
    )


def _has_tokenizer(package: Package, path: str) -> bool:
    from regraft.runtime.tokenizing import tokenizer_path

    folder = path.rpartition("/")[0]
    vocabulary = f"{folder}/vocab.txt" if folder else "vocab.txt"
    return tokenizer_path(package, path) is not None or any(entry.path == vocabulary for entry in package.entries)


def _text_encoder(package: Package, start: Start, path: str) -> TextEncoder:
    """With the head that the package declares; where the weights of that are missing, the encoder alone."""
    from regraft.runtime.vouched import load_text_vouched

    def load(*, head: bool) -> TextEncoder:
        return load_text_vouched(
            package,
            start.permit,
            code_loader=start.code_loader,
            path=path,
            runtime=start.runtime,
            threads=start.threads,
            precision=start.precision,
            head=head,
        )

    try:
        return load(head=True)
    except Unsupported:
        return load(head=False)


def _string_passes(model: Model, start: Start) -> Passes:
    """Over a graph that holds its tokenizer."""
    import numpy as np

    texts = _shuffled(start)
    (port,) = model.signature.inputs
    inputs = f"{len(texts)} texts, to {', '.join(one.name for one in model.signature.outputs)}"

    def of(batch: int, length: int | None = None) -> Callable[[], object]:
        if length is not None:
            raise Unsupported("how many tokens a text has is known to the graph alone", where=model.where)
        rounds = itertools.cycle(texts)
        return lambda: model({port.name: np.array(_next(rounds, batch), dtype=object)})

    return Passes(model, of, lambda: inputs, not start.texts)


def _text_passes(encoder: TextEncoder, start: Start) -> Passes:
    texts, outcome = _shuffled(start), _Outcome()

    def of(batch: int, length: int | None = None) -> Callable[[], object]:
        rounds = itertools.cycle(texts if length is None else _lengthened(encoder, texts, length))
        limit = length or encoder.max_tokens

        def run() -> object:
            encoder.tokenizer.enable_truncation(limit)
            return _encoded(encoder, encoder.tokenize(_next(rounds, batch)), outcome)

        return run

    @functools.cache
    def spread() -> str:
        counts = sorted(len(encoding.ids) for encoding in encoder.tokenize(texts))
        return f"{len(texts)} texts of {counts[0]}–{counts[-1]} tokens, median {counts[len(counts) // 2]}"

    return Passes(encoder.model, of, lambda: outcome.beside(spread()), not start.texts)


def _shuffled(start: Start) -> list[str]:
    texts = list(start.texts or DEFAULT_TEXTS)
    random.Random(start.seed).shuffle(texts)  # noqa: S311
    return texts[:_MAX_TEXTS]


def _encoded(encoder: TextEncoder, encodings: Sequence[Encoding], outcome: _Outcome) -> object:
    """One pass to logits, else to vectors, else to what the network returns."""
    outputs = encoder.model(encoder.feeds(encodings))
    if _LOGITS in outputs:
        outcome.kind = _LOGITS
    elif outcome.kind != "outputs":
        try:
            vectors = encoder.pooled(outputs, encoder.mask(encodings))
        except Unsupported:
            outcome.kind = "outputs"
        else:
            outcome.kind = "vectors"
            return vectors
    return outputs


def _lengthened(encoder: TextEncoder, texts: Sequence[str], length: int) -> list[str]:
    """Texts that are repeated until they have at least `length` tokens, where they will be cut.

    Raises:
        Unsupported: the model takes fewer tokens.
    """
    if length > encoder.max_tokens:
        raise Unsupported(f"the model takes {encoder.max_tokens} tokens, not {length}", where=encoder.model.where)
    counts = [len(encoding.ids) for encoding in encoder.tokenize(texts)]
    special = len(encoder.tokenize([""])[0].ids)
    return [
        " ".join([text] * (length // max(1, count - special) + 1)) for text, count in zip(texts, counts, strict=True)
    ]


def _picture_passes(model: Model, preprocessing: ImagePreprocessing, shape: tuple[int, ...], seed: int) -> Passes:
    import numpy as np

    shape, outcome = shape or PHOTOGRAPH, _Outcome()
    (port,) = model.signature.inputs

    @functools.cache
    def pictures() -> list[Any]:
        return list(np.random.default_rng(seed).integers(0, 256, (_PICTURES, *shape), dtype=np.uint8))

    def of(batch: int, length: int | None = None) -> Callable[[], object]:
        if length is not None:
            raise Unsupported("pictures have no length", where=model.where, hint="leave out --length")
        rounds = itertools.cycle(pictures())

        def run() -> object:
            outputs = model({port.name: preprocessing(_next(rounds, batch))})
            outcome.kind = _LOGITS if _LOGITS in outputs else "outputs"
            return outputs

        return run

    colours = "coloured" if len(shape) == 3 else "grey"
    made = f"made-up {colours} pictures of {shape[0]} × {shape[1]} pixels"
    prepared = f"{preprocessing.height} × {preprocessing.width} {preprocessing.channels}"
    return Passes(model, of, lambda: outcome.beside(f"{made}, prepared as {prepared}"), True)


def _array_passes(model: Model, start: Start) -> Passes:
    """The network alone, on arrays of the user's or on values made up from its signature."""
    if start.feeds_file is not None:
        feeds = own_feeds(Path(start.feeds_file), model.signature)
        return Passes(model, lambda *_: lambda: model(feeds), lambda: _shapes(feeds), False, batch_of(feeds))
    _require_no_texts(start, model.where)
    symbols = {s for p in model.signature.inputs for s in (p.shape or ())[1:] if not isinstance(s, int)}
    sizes = sorted({"others" if one is None else one for one in symbols})
    inputs = "made up from the signature" + (f"; {', '.join(sizes)} = {MADE_UP}" if sizes else "")

    def of(batch: int, length: int | None = None) -> Callable[[], object]:
        if length is not None and not sizes:
            raise Unsupported("the model has no length that could be chosen", where=model.where)
        made = made_up_feeds(model, batch=batch, length=length or MADE_UP, seed=start.seed)
        return lambda: model(made)

    return Passes(model, of, lambda: inputs, True)


def _require_no_texts(start: Start, where: str) -> None:
    """Evidence names the user's texts as its data: a network that never saw them has none about it."""
    if start.texts:
        hint = "leave out --texts, or give it arrays: --feeds FILE"
        raise Unsupported("the package takes no texts: it has no tokenizer", where=where, hint=hint)


def _next(rounds: Iterator[Any], count: int) -> list[Any]:
    return list(itertools.islice(rounds, count))


def _shapes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, value.shape)) or 'scalar'}" for name, value in feeds.items())
