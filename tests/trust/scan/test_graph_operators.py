"""Operators of TensorFlow, TFLite and TorchScript, on real files and on descriptions with planted operators."""

from __future__ import annotations

import io
import json
import zipfile

import pytest

from regraft.package.formats import Description, Probe
from regraft.package.limits import MAX_NESTING
from regraft.package.reader import BytesReader
from regraft.record.evidence import Verdict
from regraft.trust.scan.interface import Site
from regraft.trust.scan.tensorflow import TensorflowFamily
from regraft.trust.scan.torchscript import TorchscriptFamily


class Described:
    """A format whose description is given."""

    def __init__(self, name: str, description: Description) -> None:
        self.name = name
        self._description = description

    def describe(self, probe: Probe) -> Description:
        return self._description


def rules(family: object, kind: str, *operators: str, **metadata: str) -> set[str]:
    description = Description(operators=dict.fromkeys(operators, 1), metadata=metadata)
    site = Site("m", None, Probe(BytesReader(b"", where="m"), "m"), Described(kind, description))  # type: ignore[arg-type]
    return {finding.rule for finding in family.examine(site)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["tf-saved-model", "tf-meta-graph", "tf-graph", "tfjs"])
def test_operators_of_tensorflow(kind):
    family = TensorflowFamily()
    assert rules(family, kind, "MatMul", "RestoreV2", "SaveV2", "MergeV2Checkpoints", "ParseExample") == set()
    assert rules(family, kind, "ReadFile") == {"RGS-TFL-001"}
    assert rules(family, kind, "WriteFile") == {"RGS-TFL-001"}
    assert rules(family, kind, "PyFunc") == {"RGS-TFL-002"}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a.txt, ../b", "C:\\x", "gs://bucket/x"])
def test_assets_outside_of_the_model(name):
    assert rules(TensorflowFamily(), "tf-saved-model", assets=name) == {"RGS-TFL-005"}
    assert rules(TensorflowFamily(), "tf-saved-model", assets="vocab.txt, labels..txt") == set()


def test_operators_of_tflite():
    family = TensorflowFamily()
    assert rules(family, "tflite", "CONV_2D") == set()
    assert rules(family, "tflite", "Mine", custom_operators="Mine") == {"RGS-TFL-003"}
    assert rules(family, "tflite", "FlexWriteFile", custom_operators="FlexWriteFile") == {"RGS-TFL-001"}
    assert (
        rules(family, "tflite", "TFLite_Detection_PostProcess", custom_operators="TFLite_Detection_PostProcess")
        == set()
    )


def test_operators_of_torchscript():
    family = TorchscriptFamily()
    assert rules(family, "torchscript", "aten::conv1d", "quantized::linear") == set()
    assert rules(family, "torchscript", "aten::save") == {"RGS-TSC-001"}
    assert rules(family, "torchscript", "aten::from_file") == {"RGS-TSC-001"}
    assert rules(family, "torchscript", "mylib::op") == {"RGS-TSC-002"}


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("_operator::add", None),
        ("torch::sym_max", None),
        ("math::trunc", None),
        ("_operator::methodcaller", "RGS-TSC-003"),
        ("_operator::call", "RGS-TSC-003"),
        ("torch::os.system", "RGS-TSC-003"),
        ("torch::hub.load", "RGS-TSC-003"),
        ("torch::ops.load_library", "RGS-TSC-003"),
        ("torch::_C._vmap_increment_nesting", "RGS-TSC-002"),
        ("torch::_functorch.predispatch._add_batch_dim", None),
        ("torch::_functorch.predispatch.torch.hub.load", "RGS-TSC-003"),
        ("higher_order::while_loop", None),
        ("higher_order::call_torchbind", "RGS-TSC-002"),
        ("torch::ops.aten.from_file.default", "RGS-TSC-001"),
    ],
)
def test_what_an_exported_program_looks_up_in_python(target, found):
    assert rules(TorchscriptFamily(), "torch-export", "aten::add.Tensor", target) == ({found} if found else set())


def branching_program(target, depth):
    """A program that calls this in a branch, that many of them in each other."""
    node = json.dumps({"target": target, "inputs": [{"name": "", "arg": {"as_string": "true"}}]})
    for _ in range(depth):  # by hand: json does not write that deep
        graph = f'{{"as_graph": {{"name": "true_graph_0", "graph": {{"nodes": [{node}]}}}}}}'
        node = f'{{"target": "torch.ops.higher_order.cond", "inputs": [{{"arg": {graph}}}]}}'
    return program_of(node)


def program_of(node):
    """A program of one node, given as JSON."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", f'{{"graph_module": {{"graph": {{"nodes": [{node}]}}}}}}')
    return buffer.getvalue()


def test_a_branch_of_an_exported_program_is_looked_into(scan_files):
    """torch finds `torch.os.system` among what the module imports, and calls it when the program is run."""
    evidence = scan_files({"m.pt2": branching_program("torch.os.system", 1)})
    assert evidence.verdict is Verdict.FAIL
    assert "RGS-TSC-003" in {finding.rule for finding in evidence.findings}
    assert scan_files({"m.pt2": branching_program("torch.ops.aten.add.Tensor", 2)}).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ("torch.ops.aten.add.Tensor", Verdict.PASS),
        ("torch.ops.torchvision.nms.default", Verdict.PASS),
        ("torch.ops.aten.__and__.Tensor", Verdict.PASS),
        ("torch.sym_max", Verdict.PASS),
        ("torchvision.ops.aten.from_file.default", Verdict.FAIL),
        ("torchaudio.os.system", Verdict.FAIL),
        ("mathematics.gcd", Verdict.INCONCLUSIVE),
        ("_operator_.call", Verdict.FAIL),
        ("torchvision._higher_order_ops.wrap.wrap", Verdict.INCONCLUSIVE),
        ("torch.ops.aten.add.__call__", Verdict.FAIL),
        ("torch.ops.aten.from_file.default.__call__", Verdict.FAIL),
        ("#extension:call", Verdict.INCONCLUSIVE),
    ],
)
def test_targets_are_judged_by_what_torch_finds_under_them(scan_files, target, verdict):
    """torch 2.13 looks at how a target begins, and drops everything before its first dot."""
    assert scan_files({"m.pt2": program_of(json.dumps({"target": target}))}).verdict is verdict


@pytest.mark.parametrize(
    "argument",
    [
        {"as_operator": "CALLED"},
        {"as_string_to_argument": {"f": {"as_string_to_argument": {"g": {"as_operator": "CALLED"}}}}},
        {"as_string_to_argument": {"f": {"as_graph": {"graph": {"nodes": [{"target": "CALLED"}]}}}}},
        {"as_graphs": [{"as_graph": {"graph": {"nodes": [{"target": "CALLED"}]}}}]},
    ],
)
def test_what_a_node_is_handed_to_call_is_judged(scan_files, argument):
    given = {"target": "torch.ops.higher_order.cond", "inputs": [{"name": "", "arg": argument}]}
    for target, verdict in (("torch.os.system", Verdict.FAIL), ("torch.ops.aten.add.Tensor", Verdict.PASS)):
        program = program_of(json.dumps(given).replace("CALLED", target))
        assert scan_files({"m.pt2": program}).verdict is verdict


def test_what_torch_itself_writes_of_graphs_in_graphs_is_harmless(scan_files):
    """A part without gradients, and a function over a batch."""
    import torch

    class Network(torch.nn.Module):
        def forward(self, x):
            with torch.no_grad():
                doubled = x * 2
            return torch.func.vmap(torch.dot, in_dims=(0, None))(doubled, x[0])

    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Network(), (torch.ones(2, 3),)), buffer)
    evidence = scan_files({"m.pt2": buffer.getvalue()})
    assert {finding.rule for finding in evidence.findings if finding.rule.startswith("RGS-TSC")} == set()


def test_branches_that_nobody_looks_into_are_not_cleared(scan_files):
    evidence = scan_files({"m.pt2": branching_program("torch.os.system", MAX_NESTING + 1)})
    assert evidence.verdict is Verdict.INCONCLUSIVE


def test_torchscript_that_saves_a_file_is_found_in_its_code(scan_files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
        archive.writestr("m/code/__torch__.py", 'def forward(self, x: Tensor) -> Tensor:\n  torch.save(x, "/tmp/x")\n')
        archive.writestr("m/version", "3\n")
    evidence = scan_files({"m.pt": buffer.getvalue()})
    assert evidence.verdict is Verdict.FAIL
    assert "RGS-TSC-001" in {f.rule for f in evidence.findings}
