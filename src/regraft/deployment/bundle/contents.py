"""What goes into a bundle: the files of one model, its signature as it was seen in a run, and how texts reach it."""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.bench.inputs import MADE_UP, made_up_feeds, own_feeds
from regraft.deployment.bench.passes import DEFAULT_TEXTS
from regraft.deployment.bundle.interface import Carried, Contents, Graph, Texts
from regraft.deployment.loading import Opened
from regraft.errors import BadFeeds, Damaged, Unsupported
from regraft.package.formats import Loading, Port, Role
from regraft.package.manifest import Manifest
from regraft.runtime.verified import VerifiedFiles, loading_of

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Model
    from regraft.runtime.text import TextEncoder

_SIZES = (MADE_UP, 224, 320, 16)
"""Of symbolic dimensions that are not the batch, tried one after the other until the network takes them."""
_ROWS = (1, 3)
"""A batch that is no batch shows with three rows."""
_CONFIG_SUFFIXES = (".json", ".txt", ".jinja", ".model", ".yaml", ".yml")
_DOCS = re.compile(r"(readme|licen[cs]e|copying|notice|model_card)(\.(md|txt|rst))?", re.IGNORECASE)
_MAX_CONFIG_BYTES = 64 << 20
_HIDDEN = ("last_hidden_state", "token_embeddings")


def name_of(text: str) -> str:
    """A name that every server takes: letters, digits, `_` and `-`, beginning with a letter or digit."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:64] or "model"


def graph_files(opened: Opened, manifest: Manifest) -> Iterator[Carried]:
    """The graph, the weights that it names, and what lies beside it as data: settings, labels, card, licence.

    Nothing that a loader would run is carried.

    Raises:
        Unsupported: weights lie outside of the graph's folder.
    """
    assert opened.package is not None
    root = posixpath.dirname(opened.path)
    weights = _weights_of(opened.package, opened.path)
    for entry in sorted(manifest.entries, key=lambda entry: entry.path != opened.path):
        name = posixpath.relpath(entry.path, root or ".")
        base = posixpath.basename(entry.path)
        if entry.path in weights and name.startswith("../"):
            raise Unsupported(
                f"the weights {entry.path!r} lie outside of the folder of the graph that names them",
                where=opened.path,
                hint="put them beside the graph",
            )
        if entry.path == opened.path or entry.path in weights:
            yield Carried(name, entry.path, entry.size_bytes, entry.sha256, "model")
        elif entry.size_bytes > _MAX_CONFIG_BYTES or name.startswith("../"):
            continue
        elif _DOCS.fullmatch(base):
            yield Carried(name, entry.path, entry.size_bytes, entry.sha256, "doc")
        elif base.endswith(_CONFIG_SUFFIXES):
            yield Carried(name, entry.path, entry.size_bytes, entry.sha256, "config")


def all_files(package: Package, manifest: Manifest) -> Iterator[Carried]:
    """Every file of a package, by what its format is for."""
    for entry in manifest.entries:
        _, recognised = package.probe(entry.path)
        role = recognised.role if recognised is not None else Role.OTHER
        if _DOCS.fullmatch(posixpath.basename(entry.path)) or role in (Role.CARD, Role.LICENCE):
            kind = "doc"
        elif role in (Role.CONFIG, Role.TOKENIZER):
            kind = "config"
        else:
            kind = "code" if role is Role.CODE else "model"
        yield Carried(entry.path, entry.path, entry.size_bytes, entry.sha256, kind)


def runs_when_loaded(package: Package, files: Iterable[Carried]) -> list[str]:
    """Carried files of the package whose usual loader may execute what they hold: code, pickles, Keras layers."""
    return [
        one.name for one in files if one.path and (one.kind == "code" or loading_of(package, one.path) is Loading.CODE)
    ]


def graph_of(opened: Opened, own: Path | None = None) -> Graph:
    """Run the network once with one row and once with three, and note what it is.

    Args:
        own: file of arrays that it takes; None to make some up.
    Raises:
        Unsupported: it takes none of the inputs that are made up for it, or not the given ones.
        UsageError, Damaged: the file holds no arrays for it.
    """
    model = opened.model
    assert model is not None
    encoder = _encoder(opened, model)
    feeds = _feeds(model, encoder) if own is None else own_feeds(own, model.signature)
    answers = model(feeds)
    return Graph(
        model.runtime,
        model.effective_precision,
        posixpath.basename(opened.path),
        tuple(_seen(port, feeds[port.name]) for port in model.signature.inputs),
        tuple(_seen(port, answers[port.name]) for port in model.signature.outputs),
        _is_batched(model, None if own is None else feeds),
        feeds,
        answers,
        _texts(opened, model, encoder) if encoder is not None else None,
        is_particular=own is not None,
    )


def texts_files(opened: Opened, texts: Texts, files: tuple[Carried, ...]) -> tuple[Carried, ...]:
    """The tokenizer as one file, where the package has it in parts (`vocab.txt`) or elsewhere."""
    if any(one.name == texts.tokenizer for one in files):
        return ()
    encoder = _encoder(opened, opened.model)
    assert encoder is not None
    encoder.tokenizer.no_truncation()
    return (Carried.made(texts.tokenizer, encoder.tokenizer.to_str().encode(), "config"),)


def _weights_of(package: Package, path: str) -> set[str]:
    """Files that the graph does not run without: the `.bin` of an IR, external data of ONNX."""
    _, recognised = package.probe(path)
    if recognised is not None and recognised.name == "openvino-ir":
        return {posixpath.splitext(path)[0] + ".bin"}
    from regraft.runtime.onnx_proto import proto_from_bytes, tensors_of

    content = VerifiedFiles(package).read(path)
    if b"location" not in content:
        return set()
    places = {
        entry.value
        for tensor in tensors_of(proto_from_bytes(content, path).graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return {posixpath.normpath(posixpath.join(posixpath.dirname(path), place)) for place in places}


def _feeds(model: Model, encoder: TextEncoder | None) -> Mapping[str, Array]:
    if encoder is not None:
        return encoder.feeds(encoder.tokenize(DEFAULT_TEXTS[:3]))
    refused: Exception | None = None
    for rows in (_ROWS[-1], 1):
        for size in _SIZES:
            try:
                feeds = made_up_feeds(model, batch=rows, length=size)
                model(feeds)
            except (Unsupported, BadFeeds) as error:
                refused = refused or error
            else:
                return feeds
    fixed = _fixed_feeds(model)
    if fixed is not None:
        return fixed
    raise Unsupported(
        f"no inputs could be made up that the network takes: {refused}",
        where=model.where,
        hint="give it some that it takes: --feeds FILE",
    )


def _fixed_feeds(model: Model) -> Mapping[str, Array] | None:
    """Of a network whose first axes are no batch: the first case that its signature allows."""
    from regraft.runtime.feeds import generated_feeds

    try:
        for case in generated_feeds(model.signature):
            model(case.feeds)
            return case.feeds
    except (Unsupported, BadFeeds):
        return None
    return None


def _seen(port: Port, value: Array) -> Port:
    """The port with the rank that was seen; a symbolic extent is None."""
    extents = port.shape if port.shape is not None and len(port.shape) == value.ndim else (None,) * value.ndim
    return Port(port.name, port.dtype, tuple(extent if isinstance(extent, int) else None for extent in extents))


def _is_batched(model: Model, own: Mapping[str, Array] | None) -> bool:
    """Is the first axis of every input and output the batch? Proven by running it, not read from names.

    Args:
        own: inputs that it takes, of which rows are taken; None to make some up.
    """
    for rows in _ROWS:
        for feeds in _of_rows(model, rows, own):
            try:
                answers = model(feeds)
            except (Unsupported, BadFeeds):
                continue
            arrays = [*feeds.values(), *answers.values()]
            if any(not value.ndim or value.shape[0] != rows for value in arrays):
                return False
            break
        else:
            return False
    return True


def _of_rows(model: Model, rows: int, own: Mapping[str, Array] | None) -> Iterator[Mapping[str, Array]]:
    import numpy as np

    if own is not None:
        if all(value.ndim for value in own.values()):
            yield {name: np.concatenate([value] * rows)[:rows] for name, value in own.items()}
        return
    for size in _SIZES:
        with contextlib.suppress(Unsupported):
            yield made_up_feeds(model, batch=rows, length=size)


def _encoder(opened: Opened, model: Model | None) -> TextEncoder | None:
    """Tokenizer and limits of a text package around its model; None for other packages."""
    from regraft.runtime.text import encoder_around

    if opened.package is None or model is None or "input_ids" not in [port.name for port in model.signature.inputs]:
        return None
    try:
        return encoder_around(model, VerifiedFiles(opened.package, opened.permit), opened.path)
    except (Unsupported, Damaged):
        return None


def _texts(opened: Opened, model: Model, encoder: TextEncoder) -> Texts:
    from regraft.runtime.pipeline import labels_of

    assert opened.package is not None
    outputs = [port.name for port in model.signature.outputs]
    hidden = next((name for name in _HIDDEN if name in outputs), outputs[0])
    takes = {port.name: port.dtype for port in model.signature.inputs}
    return Texts(
        "tokenizer.json",
        encoder.max_tokens,
        encoder.lowercase,
        encoder.special_tokens,
        encoder.pad_id,
        takes,
        hidden,
        encoder.pooling.modes,
        encoder.pooling.normalise,
        labels_of(opened.package),
    )


__all__ = ["Contents", "all_files", "graph_files", "graph_of", "name_of", "runs_when_loaded", "texts_files"]
