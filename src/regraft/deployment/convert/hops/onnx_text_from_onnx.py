"""An ONNX graph that takes strings: the package's tokenizer in front of its network, its pooling behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.deployment.convert.hops.onnx_rewriting import graph_model
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.text_graph.builder import GraphBuilder
from regraft.deployment.convert.text_graph.nodes import Frame, add_tokenizer
from regraft.deployment.convert.text_graph.pooling import add_pooling
from regraft.deployment.convert.text_graph.proof import prove_tokenizer
from regraft.deployment.convert.text_graph.tables import tables_of
from regraft.errors import Unsupported
from regraft.runtime.text import encoder_around
from regraft.runtime.text_model import TEXTS

if TYPE_CHECKING:
    import onnx

    from regraft.package.formats import Port
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
    from regraft.runtime.text import TextEncoder

_LEAST_OPSET = 13
_DOMAINS = {"ai.onnx.ml": 2, "com.microsoft": 1}
_FED = ("input_ids", "attention_mask", "token_type_ids")


class OnnxTextFromOnnx:
    """Puts a tokenizer of word pieces in front of a network of token ids, as operators of ONNX."""

    name = "onnx_text_from_onnx"
    source = "onnx"
    target = "onnx-text"
    cost = 2

    def obstacle(self) -> str:
        """ONNX Runtime and tokenizers must be installed."""
        return missing("onnxruntime", "onnx", extra="onnx") or missing("tokenizers", extra="text")

    def convert(self, source: Source) -> Hop:
        """Join tokenizer, network and pooling; the tokens must be the tokenizer's own on every character of Unicode.

        Raises:
            Unsupported: the tokenizer is of a kind that is no graph yet, by name; the network takes more than tokens,
                mask and types; or the tokens of a text differ, which is then quoted.
        """
        import onnx
        import onnxruntime

        model = graph_model(source)
        if source.files is None:
            raise Unsupported("a model in memory brings no tokenizer", where=source.where)
        encoder = encoder_around(model, source.files, source.path)
        where = source.where
        _require_fed(model.signature.inputs, where)
        if encoder.lowercase:
            raise Unsupported("texts are lowered before they reach the tokenizer, which is no graph yet", where=where)
        frame = frame_of(encoder, where)
        tables = tables_of(encoder.tokenizer, where)
        graph = GraphBuilder(_free_prefix(model.outline))
        ids, mask = add_tokenizer(graph, TEXTS, tables, frame)
        proven = prove_tokenizer(graph, ids, mask, encoder, tables, where)
        content = _joined(model, graph, ids, mask, encoder).SerializeToString()
        notes = (f"tokens are the tokenizer's own for {proven}", f"texts are cut at {encoder.max_tokens} tokens")
        versions = {"onnxruntime": str(onnxruntime.__version__), "onnx": str(onnx.__version__)}
        return Hop({"model.onnx": content}, "onnxruntime", notes, versions)


def frame_of(encoder: TextEncoder, where: str) -> Frame:
    """What the tokenizer puts around a text, seen on one.

    Raises:
        Unsupported: it has types of tokens beside 0, or is cut to nothing.
    """
    tokenizer = encoder.tokenizer
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    framed = tokenizer.encode("a", add_special_tokens=encoder.special_tokens)
    if any(framed.type_ids):
        raise Unsupported("its tokens have types other than 0", where=where)
    before = next((at for at in range(len(framed.ids)) if framed.ids[at : at + len(plain)] == plain), 0)
    after = tuple(framed.ids[before + len(plain) :])
    most = encoder.max_tokens - before - len(after)
    if most < 1:
        raise Unsupported(f"{encoder.max_tokens} tokens leave no room for a text", where=where)
    return Frame(tuple(framed.ids[:before]), after, encoder.pad_id, most)


def _require_fed(ports: Sequence[Port], where: str) -> None:
    strange = [port.name for port in ports if port.name not in _FED]
    if strange:
        raise Unsupported(f"the network takes {', '.join(strange)}, which no tokenizer gives", where=where)


def _free_prefix(proto: onnx.ModelProto) -> str:
    """Begins no name of the network."""
    graph = proto.graph
    names = [name for node in graph.node for name in (*node.input, *node.output, node.name)]
    names += [tensor.name for tensor in graph.initializer]
    prefix = "texts_"
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return prefix


def _joined(model: OnnxRuntimeModel, graph: GraphBuilder, ids: str, mask: str, encoder: TextEncoder) -> onnx.ModelProto:
    """Tokenizer, network and pooling in one graph. Beside what it answers it returns the tokens and their mask."""
    import onnx
    from onnx import TensorProto, helper

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    network = proto.graph
    opset = max((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < _LEAST_OPSET:
        raise Unsupported(f"the graph is of opset {opset}; {_LEAST_OPSET} is the least", where=model.where)
    given = {"input_ids": ids, "attention_mask": mask}
    kinds = {value.name: value.type.tensor_type.elem_type for value in network.input}
    behind = GraphBuilder(f"{graph.name()}_")
    for name in _FED:
        if name in kinds:
            value = given.get(name) or graph.Mul(mask, graph.integers(0))
            graph.nodes.append(helper.make_node("Cast", [value], [name], to=kinds[name]))
        elif name in given:
            graph.nodes.append(helper.make_node("Identity", [given[name]], [name]))
    made = add_pooling(behind, list(network.output), mask, encoder.pooling, model.where)
    del network.input[:]
    network.input.append(helper.make_tensor_value_info(TEXTS, TensorProto.STRING, ["batch"]))
    del network.output[:]
    network.output.extend(made)
    for name in given:
        kind = kinds.get(name, TensorProto.INT64)
        network.output.append(helper.make_tensor_value_info(name, kind, ["batch", "tokens"]))
    nodes = [*graph.nodes, *network.node, *behind.nodes]
    del network.node[:]
    network.node.extend(nodes)
    network.value_info.extend(graph.declared)
    network.initializer.extend((*graph.constants, *behind.constants))
    known = {one.domain for one in proto.opset_import}
    proto.opset_import.extend(
        helper.make_opsetid(domain, version) for domain, version in _DOMAINS.items() if domain not in known
    )
    return proto
