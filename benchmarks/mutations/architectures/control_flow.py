"""If, Loop and Scan: a branch that depends on the data, a refinement in rounds, a running state."""

from __future__ import annotations

import numpy as np
from benchmarks.mutations.interface import Feeds, Reference
from benchmarks.mutations.sketch import Sketch

WIDTH, ROUNDS = 12, 4


def references() -> list[Reference]:
    """One network, opset 18; the feeds go through both branches."""
    net = Sketch("control_flow", opset=18, seed=404)
    x = net.input("x", "float32", ("batch", "time", WIDTH))
    with net.scope("encode"):
        x = net.node("Tanh", _linear(net, x, WIDTH, WIDTH))
    with net.scope("branch"):
        level = net.node("ReduceMean", "x", keepdims=0)
        chosen = net.node("Greater", level, net.scalar(0.0, "zero"))
        then, other = _then(net, x), _otherwise(net, x)
        y = net.node("If", chosen, then_branch=then.graph(), else_branch=other.graph())
    with net.scope("refine"):
        start = net.node("ReduceMean", y, net.ints(1, name="axes"), keepdims=0)  # (B, D)
        rounds, go_on = net.scalar(ROUNDS, "rounds", "int64"), net.weight("go_on", True, "bool")
        refined, history = net.multiple("Loop", rounds, go_on, start, outputs=2, body=_refinement(net).graph())
    with net.scope("accumulate"):
        swapped = net.node("Transpose", y, perm=[1, 0, 2])  # (T, B, D)
        state, states = net.multiple(
            "Scan", refined, swapped, outputs=2, num_scan_inputs=1, scan_input_directions=[0], body=_step(net).graph()
        )
    with net.scope("head"):
        spread = net.node("ReduceMax", history, net.ints(0, name="axes"), keepdims=0)  # (B, D)
        answer = net.node("Softmax", _linear(net, net.node("Sub", state, spread), WIDTH, 5), axis=-1)
    net.output(answer, "answer", "float32", ("batch", 5))
    net.output(states, "states", "float32", ("time", "batch", WIDTH))
    return [Reference("control_flow", "control_flow", net.proto(), [_feeds(3, 7, 1), _feeds(2, 5, 2), _feeds(5, 7, 3)])]


def _feeds(batch: int, time: int, seed: int) -> Feeds:
    """The mean is above 0 for odd seeds and below for even ones."""
    offset = 0.4 if seed % 2 else -0.4
    return {"x": (np.random.default_rng(seed).standard_normal((batch, time, WIDTH)) + offset).astype(np.float32)}


def _linear(net: Sketch, x: str, inputs: int, outputs: int) -> str:
    product = net.node("MatMul", x, net.normal("weight", inputs, outputs, fan_in=inputs))
    return net.node("Add", product, net.weight("bias", 0.2 * net.random.standard_normal(outputs)))


def _then(net: Sketch, x: str) -> Sketch:
    branch = Sketch("then", outer=net)
    y = branch.node("LeakyRelu", _linear(branch, x, WIDTH, WIDTH), alpha=0.2)
    branch.output(branch.node("Add", y, x), "then/result", "float32", ("batch", "time", WIDTH))
    return branch


def _otherwise(net: Sketch, x: str) -> Sketch:
    branch = Sketch("else", outer=net)
    y = branch.node("Sigmoid", _linear(branch, x, WIDTH, WIDTH))
    branch.output(branch.node("Mul", y, x), "else/result", "float32", ("batch", "time", WIDTH))
    return branch


def _refinement(net: Sketch) -> Sketch:
    """state ← state + ½ tanh(state W + b) · (round + 1) / rounds."""
    body = Sketch("round", outer=net)
    number = body.input("round/number", "int64", ())
    go_on = body.input("round/go_on", "bool", ())
    state = body.input("round/state", "float32", ("batch", WIDTH))
    update = body.node("Tanh", _linear(body, state, WIDTH, WIDTH))
    share = body.node("Add", body.node("Cast", number, to=1), body.scalar(1.0, "one"))
    share = body.node("Div", share, body.scalar(2.0 * ROUNDS, "rounds"))
    new = body.node("Add", state, body.node("Mul", update, share))
    seen = body.node("Identity", new)
    body.output(body.node("Identity", go_on), "round/goes_on", "bool", ())
    body.output(new, "round/new", "float32", ("batch", WIDTH))
    body.output(seen, "round/seen", "float32", ("batch", WIDTH))
    return body


def _step(net: Sketch) -> Sketch:
    """state ← a · state + (1 - a) · relu(x W + b), with one a for each feature."""
    body = Sketch("step", outer=net)
    state = body.input("step/state", "float32", ("batch", WIDTH))
    x = body.input("step/x", "float32", ("batch", WIDTH))
    kept = body.uniform("kept", WIDTH, low=0.3, high=0.8)
    old = body.node("Mul", state, kept)
    fresh = body.node(
        "Mul", body.node("Relu", _linear(body, x, WIDTH, WIDTH)), body.node("Sub", body.scalar(1.0), kept)
    )
    new = body.node("Add", old, fresh)
    seen = body.node("Identity", new)
    body.output(new, "step/new", "float32", ("batch", WIDTH))
    body.output(seen, "step/seen", "float32", ("batch", WIDTH))
    return body
