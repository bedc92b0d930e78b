"""Converters with planted bugs: the search notices, says why, and takes the next way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter

from regraft.deployment.convert import convert, members
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.routes import require_route
from regraft.errors import BadFeeds, Damaged, NotFound, Unsupported, UsageError
from regraft.record.evidence import Verdict
from regraft.record.store import Store

TARGET = "newer"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """conv → norm → gelu-like → softmax attention over channels → linear: room for many mistakes."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name)

    stored = [
        weight("k", 8, 3, 3),
        weight("kb", 8),
        weight("g", 8),
        weight("b", 8),
        weight("w", 8, 8),
        weight("v", 4, 8),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["t", "g", "b"], ["n"], axis=-1, epsilon=1e-5),
        helper.make_node("MatMul", ["n", "w"], ["q"]),
        helper.make_node("Softmax", ["q"], ["s"], axis=-1),
        helper.make_node("Mul", ["s", "n"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["r"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["r", "v"], ["y"], transB=1),
        helper.make_node("Sigmoid", ["r"], ["z"]),
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "length"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 8])
    graph = helper.make_graph(nodes, "small", [x], [y, z], stored)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Sound:
    """Raises the opset, and costs more than the one with the bug."""

    name, source, target, cost = "sound", "onnx", TARGET, 2

    def obstacle(self) -> str:
        return ""

    def convert(self, source: Source) -> Hop:
        proto = version_converter.convert_version(onnx.load_from_string(source.content()), 18)
        return Hop({"model.onnx": proto.SerializeToString()}, "onnxruntime")


class Buggy(Sound):
    """The same with a bug."""

    name, cost = "buggy", 1

    def __init__(self, bug: Callable[[onnx.ModelProto], object]) -> None:
        self._bug = bug

    def convert(self, source: Source) -> Hop:
        proto = onnx.load_from_string(super().convert(source).files["model.onnx"])
        found = self._bug(proto)
        return found if isinstance(found, Hop) else Hop({"model.onnx": proto.SerializeToString()}, "onnxruntime")


def node(proto: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(one for one in proto.graph.node if one.op_type == operator)


def attribute(proto: onnx.ModelProto, operator: str, name: str) -> onnx.AttributeProto:
    return next(one for one in node(proto, operator).attribute if one.name == name)


def changed(proto: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(one for one in proto.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor))), name))


def coarser_epsilon(proto: onnx.ModelProto) -> None:
    attribute(proto, "LayerNormalization", "epsilon").f = 1e-3


def other_axis(proto: onnx.ModelProto) -> None:
    attribute(proto, "Softmax", "axis").i = 1


def weight_transposed(proto: onnx.ModelProto) -> None:
    changed(proto, "w", lambda w: w.T)


def kernel_reversed(proto: onnx.ModelProto) -> None:
    changed(proto, "k", lambda k: k[..., ::-1])


def bias_lost(proto: onnx.ModelProto) -> None:
    del node(proto, "Conv").input[2]


def rounded_weights(proto: onnx.ModelProto) -> None:
    for tensor in list(proto.graph.initializer):
        if numpy_helper.to_array(tensor).dtype == np.float32:
            changed(proto, tensor.name, lambda w: w.astype(np.float16).astype(np.float32))


def padding_on_one_side(proto: onnx.ModelProto) -> None:
    attribute(proto, "Conv", "pads").ints[:] = [2, 0]


def outputs_swapped(proto: onnx.ModelProto) -> None:
    node(proto, "Sigmoid").op_type = "Softsign"


def size_baked_in(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def output_lost(proto: onnx.ModelProto) -> None:
    del proto.graph.output[1]


def not_a_number(proto: onnx.ModelProto) -> None:
    changed(proto, "b", lambda b: np.where(np.arange(b.size) == 3, np.nan, b).astype(np.float32))


def no_files(proto: onnx.ModelProto) -> Hop:
    return Hop({}, "onnxruntime")


def truncated(proto: onnx.ModelProto) -> Hop:
    return Hop({"model.onnx": proto.SerializeToString()[:-400]}, "onnxruntime")


def refuses(proto: onnx.ModelProto) -> None:
    raise Unsupported("LayerNormalization is not supported, at node 2")


def crashes(proto: onnx.ModelProto) -> None:
    raise IndexError("list index out of range")


DIVERGING = (
    coarser_epsilon, other_axis, weight_transposed, kernel_reversed, bias_lost, padding_on_one_side, outputs_swapped,
    not_a_number, rounded_weights,
)  # fmt: skip
UNPROVEN = (size_baked_in, output_lost, truncated)
FAILING = (no_files, refuses, crashes)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """These converters are all that are installed."""

    def install(*found: Sound) -> None:
        monkeypatch.setattr(members, "_MEMBERS", ())
        monkeypatch.setattr(members, "_third_parties", lambda: tuple(Plugged(one) for one in found))
        members.converters.cache_clear()
        members.own_converters.cache_clear()

    yield install
    monkeypatch.undo()
    members.converters.cache_clear()
    members.own_converters.cache_clear()


class Plugged:
    reason = ""

    def __init__(self, member: Sound) -> None:
        self.member = member


@pytest.mark.parametrize("bug", [*DIVERGING, *UNPROVEN, *FAILING], ids=lambda bug: bug.__name__)
def test_a_bug_makes_it_take_the_next_way(
    bug: Callable[[onnx.ModelProto], object], model: Path, only: Callable[..., None], tmp_path: Path
) -> None:
    only(Buggy(bug), Sound())
    made = convert(model, to=TARGET, out=tmp_path / "made", store=Store(tmp_path / "store"))
    assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.PASS, "converted"), made.evidence.summary
    assert made.evidence.parameters["route"] == ["sound"]
    (told,) = [one for one in made.evidence.findings if one.rule == "convert.fell_back"]
    assert told.data["hop"] == "buggy"
    if bug in DIVERGING:
        assert "another network" in told.message
    if bug is refuses:
        assert "LayerNormalization" in told.message
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("bug", [coarser_epsilon, crashes], ids=lambda bug: bug.__name__)
def test_without_another_way_the_verdict_says_so(
    bug: Callable[[onnx.ModelProto], object], model: Path, only: Callable[..., None], tmp_path: Path
) -> None:
    only(Buggy(bug))
    made = convert(model, to=TARGET, out=tmp_path / "made")
    if bug is coarser_epsilon:  # it works, and is not the same network: there to be looked at
        assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.FAIL, "diverges")
        assert made.path == tmp_path / "made"
        assert any("epsilon" in str(one.data) + one.message for one in made.evidence.findings)
    else:
        assert (made.evidence.verdict, made.evidence.outcome, made.path) == (Verdict.INCONCLUSIVE, "failed", None)
        assert "IndexError" in made.evidence.summary


def test_a_bug_half_way_is_found_at_its_hop(model: Path, only: Callable[..., None], tmp_path: Path) -> None:
    class Half(Buggy):
        target = "half"

    class Onward(Sound):
        name, source, target = "onward", "half", TARGET

    class AtLast(Sound):
        name, cost = "at_last", 4

    only(Half(other_axis), Onward(), AtLast())
    made = convert(model, to=TARGET, out=tmp_path / "made")
    assert made.evidence.parameters["route"] == ["at_last"]
    (told,) = [one for one in made.evidence.findings if one.rule == "convert.fell_back"]
    assert told.data["way"] == ["buggy"], "it never came to the second hop"


def test_where_every_way_fails_the_most_direct_is_told(model: Path, only: Callable[..., None], tmp_path: Path) -> None:
    class First(Sound):
        name, target = "first", "half"

    class Second(Buggy):
        name, source = "second", "half"

    only(Buggy(refuses), First(), Second(crashes))
    made = convert(model, to=TARGET, out=tmp_path / "made")
    assert made.evidence.summary.startswith("2 ways failed; the most direct, buggy failed: ")
    assert [one.data["hop"] for one in made.evidence.findings] == ["buggy", "second"]


def test_every_hop_has_its_evidence(model: Path, only: Callable[..., None], tmp_path: Path) -> None:
    class First(Sound):
        name, target = "first", "half"

    class Second(Sound):
        name, source = "second", "half"

    only(First(), Second())
    store = Store(tmp_path / "store")
    made = convert(model, to=TARGET, out=tmp_path / "made", store=store)
    hops = made.evidence.parameters["hops"]
    assert [hop["converter"] for hop in hops] == ["first", "second"]
    for hop in hops:
        verification = store.evidence(hop["verified_by"])
        assert verification.verdict is Verdict.PASS
        assert verification.materials[0].sha256 == made.evidence.materials[0].sha256
    assert hops[-1]["verified_by"] == made.verification.digest


def test_a_converter_can_be_avoided(model: Path, only: Callable[..., None], tmp_path: Path) -> None:
    only(Buggy(coarser_epsilon), Sound())
    made = convert(model, to=TARGET, out=tmp_path / "made", avoid=["buggy"])
    assert made.evidence.parameters["route"] == ["sound"]
    assert not [one for one in made.evidence.findings if one.rule == "convert.fell_back"]


def test_ways_that_begin_as_a_dead_one_do_not_count(
    model: Path, only: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import regraft.deployment.convert as room

    class Half(Buggy):
        target = "half"

    class Onward(Sound):
        def __init__(self, number: int) -> None:
            self.name, self.source, self.target = f"onward{number}", "half", TARGET

    class AtLast(Sound):
        name, cost = "at_last", 20

    monkeypatch.setattr(room, "_WAYS", 2)
    only(Half(crashes), *map(Onward, range(4)), AtLast())
    made = convert(model, to=TARGET, out=tmp_path / "made")
    assert made.evidence.parameters["route"] == ["at_last"]


def test_ways_that_were_not_tried_leave_it_open(
    model: Path, only: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import regraft.deployment.convert as room

    class Half(Buggy):
        target = "half"

    class Onward(Sound):
        name, source = "onward", "half"

    class AtLast(Sound):
        name, cost = "at_last", 20

    monkeypatch.setattr(room, "_WAYS", 1)
    only(Half(other_axis), Onward(), AtLast())
    made = convert(model, to=TARGET, out=tmp_path / "made")
    assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.INCONCLUSIVE, "failed")


def test_a_plugin_that_cannot_say_whether_it_works_works_nowhere(
    model: Path, only: Callable[..., None], tmp_path: Path
) -> None:
    class Broken(Buggy):
        def obstacle(self) -> str:
            raise RuntimeError("no")

    only(Broken(crashes), Sound())
    assert convert(model, to=TARGET, out=tmp_path / "made").evidence.parameters["route"] == ["sound"]


def test_what_the_user_gave_wrongly_is_no_evidence_about_the_package(
    model: Path, only: Callable[..., None], tmp_path: Path
) -> None:
    only(Sound())
    with pytest.raises(NotFound):
        convert(model, to=TARGET, out=tmp_path / "made", feeds=tmp_path / "none.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(Damaged, match=r"not an \.npz"):
        convert(model, to=TARGET, out=tmp_path / "made", feeds=tmp_path / "cut.npz")
    np.savez(tmp_path / "words.npz", x=np.array(["a", "b"]))
    with pytest.raises(UsageError, match="<U1 cannot become float32"):
        convert(model, to=TARGET, out=tmp_path / "made", feeds=tmp_path / "words.npz")
    with pytest.raises(BadFeeds):
        convert(model, to=TARGET, out=tmp_path / "made", feeds={"x": np.ones((2, 9), np.float32)})
    with pytest.raises(Unsupported, match="without sound"):
        require_route("onnx", TARGET, avoid=["sound"])
