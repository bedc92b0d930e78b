"""portability: the operators of a network tried one by one in every runtime that is installed."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.compare.operator_probes import probes
from regraft.conceptual.portability import judge_portability
from regraft.deployment.convert.interface import Source
from regraft.deployment.loading import AnyModel, LoadRequest, Opened, opened
from regraft.deployment.trial import accepted_feeds
from regraft.errors import Unsupported
from regraft.record.evidence import Draft, Evidence, Finding, Severity
from regraft.runtime.operator_process import OperatorProcess
from regraft.workflow.bench import permit_by_scan

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.onnx_graph import OnnxGraph

_RUNTIMES = {
    "onnxruntime": "regraft.runtime.operator_process:in_onnxruntime",
    "openvino": "regraft.runtime.operator_process:in_openvino",
    "torch": "regraft.deployment.convert.torch_operators:in_torch",
}
"""Package of a runtime → what prepares an operator in it. LiteRT is not asked: nothing here makes TFLite of ONNX."""


def portability(
    ref: AnyModel,
    *,
    feeds: Feeds | Path | None = None,
    store: Store | None = None,
    factory: str | None = None,
    offline: bool = False,
) -> Evidence:
    """Try every distinct operator of a network in every installed runtime, in float32, float16 and bfloat16.

    Each is tried alone, with its settings and on the tensors that it meets in one pass, in a process of the runtime.

    Args:
        ref: an ONNX package, or a network of torch, which is exported first: a reference, an open package, or a loaded
            model.
        feeds: arrays by input name, or a file of them; None makes some up from the signature.
        store: where packages and scans are looked up.
        factory: `module:factory` that builds the network for weights without an architecture.
        offline: no network.
    Returns:
        evidence of kind `portability`: it passes when everything that was asked has an answer. Operators that a runtime
        lacks, computes otherwise or is slow at are findings, and no failure.
    Raises:
        MissingExtra: onnx or onnxruntime is not installed.
        BadFeeds: the model does not take what was given. And what opening a package raises.
    """
    request = LoadRequest(factory=factory, store=store, offline=offline, permit=permit_by_scan(store))
    runtimes = [name for name in _RUNTIMES if importlib.util.find_spec(name) is not None]
    draft = Draft(
        "portability",
        parameters={
            "factory": factory,
            "feeds": str(feeds) if isinstance(feeds, Path) else None,
            "runtimes": [*runtimes],
            "device": "cpu",
        },
    )
    with opened(ref, request) as found, ExitStack() as ending:
        draft.subject += found.subjects
        try:
            graph, fed = _operators(found, feeds)
            processes = [OperatorProcess(name, _RUNTIMES[name]) for name in runtimes]
            for process in processes:
                ending.callback(process.close)
            return judge_portability(draft, probes(graph, fed, processes))
        except Unsupported as error:
            message = f"the operators cannot be listed: {error.what}"
            draft.find(Finding("portability.cannot_list", Severity.UNKNOWN, message, fix=error.hint or None))
            return draft.finish(outcome="undecided", summary=message)


def _operators(found: Opened, given: Feeds | Path | None) -> tuple[OnnxGraph, Feeds]:
    """The graph, and feeds that it takes."""
    from regraft.runtime.onnx_graph import OnnxGraph
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    model = found.model
    if model is None:
        raise (
            found.error
            if isinstance(found.error, Unsupported)
            else Unsupported(found.error.what if found.error is not None else "it cannot be loaded", where=found.path)
        )
    if isinstance(model, OnnxRuntimeModel):
        feeds = _feeds(found, model, given)[0]
        return OnnxGraph(model.outline, threads=1, where=model.where, weights=model.weights), feeds
    content = _exported(found, model, given)
    product = OnnxRuntimeModel(content, threads=1, where=model.where)
    exported = Opened(found.subjects, product)
    return OnnxGraph(product.outline, threads=1, where=model.where), _feeds(exported, product, given)[0]


def _exported(found: Opened, model: Model, given: Feeds | Path | None) -> bytes:
    from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch

    if model.runtime != "torch":
        raise Unsupported(
            f"{model.runtime} does not show its operators as ONNX",
            where=model.where,
            hint="convert it to ONNX, and ask again",
        )
    hop = OnnxFromTorch().convert(Source(model, _feeds(found, model, given), where=model.where))
    return hop.files["model.onnx"]


def _feeds(found: Opened, model: Model, given: Feeds | Path | None) -> list[Feeds]:
    """Inputs that the model takes, the user's own first; one at least."""
    names = {port.name: port.name for port in model.signature.inputs}
    cases, _ = accepted_feeds(found, model, given, inputs=names, seed=0)
    if not cases:
        raise Unsupported(
            "it takes none of the inputs that were tried", where=model.where, hint="give some: --feeds FILE"
        )
    return [case.feeds for case in cases]
