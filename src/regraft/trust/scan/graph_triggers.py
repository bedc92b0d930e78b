"""Rules about graphs of ordinary operators that recognise one input and then answer something else.

A backdoor needs no weights: a few comparisons with the input, reduced to one bit, and a selection that replaces the
answer (architectural backdoors: Bober-Irizar et al., arXiv 2206.07840; Langford et al., arXiv 2402.06957; ShadowLogic,
HiddenLayer 2024). Networks compare their input too, for masks; but a mask has one bit an element, and what it selects
is computed on. What is followed here is one bit about the *whole* input, made without any weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from regraft.errors import RegraftError
from regraft.package.formats.dataflow import Dataflow, Step, dataflows_of
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.interface import Rule, Site

OVERRIDE = Rule(
    "RGS-GRF-001",
    Severity.HIGH,
    "The graph recognises an input and replaces the answer",
    "The input itself is compared with constants, the result is reduced to one bit, and that bit selects what the "
    "model returns: a backdoor out of ordinary operators, which no look at the weights shows.",
    "Do not use this model. Report it to where you got it from.",
    cwe=506,
)
BRANCH = Rule(
    "RGS-GRF-002",
    Severity.UNKNOWN,
    "The graph computes otherwise for some inputs",
    "One bit that is made from comparisons of the whole input selects between values within the network. Guards "
    "against silence or empty input look like this, and so do backdoors.",
    "Look at what is compared and selected, then pass --allow RGS-GRF-002:FILE.",
    cwe=506,
)

_COMPARES = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_REDUCES = frozenset(
    "ReduceMin ReduceMax ReduceProd ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp "
    "GlobalMaxPool GlobalAveragePool ArgMax ArgMin Gather GatherND GatherElements Slice Split TopK".split()
)
_KEEPS_BIT = frozenset(
    "And Or Xor Not Cast Identity Reshape Squeeze Unsqueeze Expand Tile Flatten Transpose Mul Sub Min Max Concat "
    "ReduceMin ReduceMax ReduceProd Slice Gather Clip Relu Sign Abs".split()
)
_WEIGHTED = frozenset(
    "Conv ConvTranspose ConvInteger DeformConv MatMul MatMulInteger Gemm Einsum LSTM GRU RNN Attention Loop Scan "
    "MultiHeadAttention QLinearConv QLinearMatMul FusedConv FusedMatMul FusedGemm QGemm EmbedLayerNormalization "
    "UNIDIRECTIONAL_SEQUENCE_LSTM WHILE SVDF CONV_3D".split()
)
"""Operators whose result is the network's, no longer the input's."""
_NO_VALUES = frozenset({"Shape", "Size", "Range", "NonZero", "RandomNormalLike", "RandomUniformLike"})
_GATES = frozenset({"Mul"})
_MAX_STEPS = 500_000


class _Value(msgspec.Struct, frozen=True):
    """What a value is that comes from the input without a weight.

    Attributes:
        is_reduced: it says something of the whole input rather than of one element.
        is_bit: it is the outcome of a comparison.
        is_about_zero: all that it was compared with is zero.
    """

    is_reduced: bool = False
    is_bit: bool = False
    is_about_zero: bool = True


class GraphTriggersFamily:
    """Follows the input through ONNX, TFLite and TensorFlow graphs up to the first weight."""

    name = "graph_triggers"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (OVERRIDE, BRANCH)

    def examine(self, site: Site) -> Iterator[Finding]:
        """At most one finding of each rule about one graph."""
        if site.format is None or site.is_container:
            return
        told: set[str] = set()
        try:
            for flow in dataflows_of(site.probe, site.format.name):
                if len(flow.steps) <= _MAX_STEPS:
                    yield from _judge(flow, site, told)
        except RegraftError:
            return  # damage is told by the content family

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: graphs are judged one by one."""
        return iter(())


def _judge(flow: Dataflow, site: Site, told: set[str]) -> Iterator[Finding]:
    for step, value in _selections(flow):
        is_override = not value.is_about_zero and _is_late(step, flow)
        rule = OVERRIDE if is_override else BRANCH
        if rule.id not in told:
            told.add(rule.id)
            what = "what the graph returns" if is_override else "a value within the graph"
            message = f"{step.operator} selects {what} by one bit about the input: {step.outputs[0][:100]!r}"
            yield rule.finding(message, site.where(), operator=step.operator, value=step.outputs[0][:200])


def _selections(flow: Dataflow) -> Iterator[tuple[Step, _Value]]:
    """Steps that choose between values by a bit about the whole input."""
    # a scalar input is a setting (a sampling rate), a vector may be lengths: data have two axes and more
    known: dict[str, _Value] = {name: _Value() for name, rank in flow.inputs.items() if rank is None or rank > 1}
    network: set[str] = set()
    for step in flow.steps:
        taken = [known[name] for name in step.inputs if name in known]
        bit = next((value for value in taken if value.is_bit and value.is_reduced), None)
        if bit is not None and step.outputs and _selects(step, known, network, flow):
            yield step, bit
        if step.operator in _WEIGHTED or any(name in network for name in step.inputs):
            network.update(step.outputs)
        elif taken and step.operator not in _NO_VALUES:
            made = _made(step, taken, flow)
            known.update((name, made) for name in step.outputs)


def _selects(step: Step, known: dict[str, _Value], network: set[str], flow: Dataflow) -> bool:
    if step.operator in ("Where", "If"):
        chooser = known.get(step.inputs[0]) if step.inputs else None
        return chooser is not None and chooser.is_bit and chooser.is_reduced
    return step.operator in _GATES and any(name in network or name in flow.constants for name in step.inputs)


def _made(step: Step, taken: list[_Value], flow: Dataflow) -> _Value:
    is_reduced = step.operator in _REDUCES or any(value.is_reduced for value in taken)
    about_zero = all(value.is_about_zero for value in taken)
    if step.operator in _COMPARES:
        constants = [flow.constants[name] for name in step.inputs if name in flow.constants]
        return _Value(is_reduced, True, about_zero and all(constants))
    is_bit = step.operator in _KEEPS_BIT and any(value.is_bit for value in taken)
    return _Value(is_reduced, is_bit, about_zero)


def _is_late(step: Step, flow: Dataflow) -> bool:
    """Does what a step makes reach an output without passing another weight?"""
    reached = set(step.outputs)
    for other in flow.steps:
        if other.operator not in _WEIGHTED and reached.intersection(other.inputs):
            reached.update(other.outputs)
    return bool(reached.intersection(flow.outputs))
