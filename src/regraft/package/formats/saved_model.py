"""TensorFlow's SavedModel (`saved_model.pb`) and the meta graph of version 1 checkpoints (`*.meta`).

Source: tensorflow/core/protobuf (saved_model, meta_graph) of TensorFlow 2.21; numbers are field numbers.
"""

from __future__ import annotations

from collections import Counter

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Port, Probe, Role
from regraft.package.formats.tf_graph import add_graph, looks_like_graph, ports_of
from regraft.package.formats.wire import SPAN, Message, entry_of, message_of, signed

_INFO, _GRAPH, _SIGNATURE, _ASSET = 1, 2, 5, 6
_DEFAULT_SIGNATURE = "serving_default"
_MAX_LISTED = 100
_MAX_FACT_CHARS = 2000


class SavedModel:
    """Format `tf-saved-model`: the graph of a SavedModel; its weights lie in `variables/`."""

    name = "tf-saved-model"
    title = "TensorFlow SavedModel"
    role = Role.GRAPH
    loading = Loading.UNKNOWN
    suffixes = (".pb",)

    def matches(self, probe: Probe) -> bool:
        """A schema version and meta graphs, and nothing else."""
        if probe.head[:1] not in (b"\x08", b"\x12"):
            return False
        metas = 0
        try:
            for number, _, value in message_of(probe).fields():
                if number == 2 and isinstance(value, Message):
                    if metas == 0 and not _looks_like_meta_graph(value):
                        return False
                    metas += 1
                elif number != 1 or not isinstance(value, int):
                    return False
        except Damaged:
            return _begins_like_saved_model(probe.head)
        return metas > 0

    def describe(self, probe: Probe) -> Description:
        """Operators of graphs and functions, the signatures, tags and versions.

        Raises:
            Damaged: the bytes are no such messages.
        """
        version = None
        metas = []
        for number, _, value in message_of(probe).fields():
            if number == 1 and isinstance(value, int):
                version = str(signed(value))
            elif number == 2 and isinstance(value, Message):
                metas.append(value)
        return _describe(metas, version)


class MetaGraph:
    """Format `tf-meta-graph`: a graph beside a version 1 checkpoint, written by `tf.train.Saver`."""

    name = "tf-meta-graph"
    title = "TensorFlow meta graph"
    role = Role.GRAPH
    loading = Loading.UNKNOWN
    suffixes = (".meta",)

    def matches(self, probe: Probe) -> bool:
        """Information about the graph, the graph, and nothing that a meta graph does not have."""
        if probe.head[:1] != b"\x0a":
            return False
        try:
            return _looks_like_meta_graph(message_of(probe))
        except Damaged:
            return False

    def describe(self, probe: Probe) -> Description:
        """Operators of graph and functions, the signatures, tags and versions."""
        return _describe([message_of(probe)], None)


def _describe(metas: list[Message], version: str | None) -> Description:
    operators: Counter[str] = Counter()
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {"meta_graphs": str(len(metas))}
    signatures: dict[str, Message] = {}
    placeholders: list[Port] = []
    assets: list[str] = []
    for meta in metas:
        for number, _, value in meta.fields():
            if not isinstance(value, Message):
                continue
            if number == _INFO:
                _add_information(value, metadata)
            elif number == _GRAPH:
                producer = add_graph(value, operators, placeholders)
                if producer is not None:
                    opsets["tensorflow.graph_def"] = producer
            elif number == _ASSET and len(assets) < _MAX_LISTED:
                assets += [name.text(limit=_MAX_FACT_CHARS) for name in value.spans(2)]
            elif number == _SIGNATURE and len(signatures) < _MAX_LISTED:
                key, signature = entry_of(value)
                if signature is not None:
                    signatures.setdefault(key, signature)
    if assets:
        metadata["assets"] = ", ".join(assets)[:_MAX_FACT_CHARS]
    if signatures:
        metadata["signatures"] = ", ".join(signatures)[:_MAX_FACT_CHARS]
    chosen = signatures.get(_DEFAULT_SIGNATURE) or next(
        (signature for key, signature in signatures.items() if not key.startswith("__")), None
    )
    return Description(
        version=version,
        tensors=(),
        operators=dict(operators),
        opsets=opsets,
        inputs=tuple(placeholders if chosen is None else ports_of(chosen, 1)),
        outputs=() if chosen is None else tuple(ports_of(chosen, 2)),
        metadata=metadata,
    )


def _add_information(information: Message, metadata: dict[str, str]) -> None:
    tags: list[str] = []
    for number, _, value in information.fields():
        if isinstance(value, Message):
            if number == 4 and len(tags) < _MAX_LISTED:
                tags.append(value.text(limit=200))
            elif number == 5:
                metadata["tensorflow_version"] = value.text(limit=200)
            elif number == 6:
                metadata["tensorflow_git_version"] = value.text(limit=200)
    if tags:
        metadata["tags"] = ", ".join(filter(None, (metadata.get("tags"), *tags)))[:_MAX_FACT_CHARS]


def _looks_like_meta_graph(meta: Message) -> bool:
    """Does it have a graph with nodes, and only fields of a meta graph?

    Raises:
        Damaged: the bytes are no message.
    """
    graph = None
    seen = set()
    for number, kind, value in meta.fields():
        if number > 7 or kind != SPAN or (number <= _GRAPH and number in seen):
            return False
        seen.add(number)
        if number == _GRAPH and isinstance(value, Message):
            graph = value
    return graph is not None and (graph.size == 0 or looks_like_graph(graph))


def _begins_like_saved_model(head: bytes) -> bool:
    """Version 1, then a meta graph that lists the definitions of its operators: a file that was cut off later."""
    return head[:3] == b"\x08\x01\x12" and b"\x12\x04type" in head
