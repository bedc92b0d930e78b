"""Converters of another distribution, installed as far as Python can tell: metadata and a module on the path."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import regraft.deployment.convert as room
from regraft.deployment.convert import members
from regraft.deployment.convert.routes import routes
from regraft.errors import UsageError
from regraft.record.evidence import Verdict
from regraft.record.store import open_store
from regraft.workflow.doctor import doctor

PLUGIN = '''
"""Converters that raise the opset of a graph, one that answers nonsense, and two that are broken."""
import onnx
from onnx import version_converter

from regraft.deployment.convert.interface import Hop


class Newer:
    name, source, target, cost = "newer_from_onnx", "onnx", "newer", 1

    def obstacle(self):
        return ""

    def convert(self, source):
        proto = version_converter.convert_version(onnx.load_from_string(source.model.content), 21)
        return Hop({"graphs/model.onnx": proto.SerializeToString()}, "onnxruntime", ("opset 21",))


class ForeignOnnx(Newer):
    """Would be a shorter way to a target that the project has a way to."""
    name, source, target = "foreign_onnx", "torch", "openvino"


class Raises(Newer):
    name, target = "raises", "raised"

    def convert(self, source):
        raise KeyError("an operator of theirs")


class Nonsense(Newer):
    name, target = "nonsense", "nothing"

    def convert(self, source):
        return b"bytes"


class Nowhere(Newer):
    name, target = "nowhere", "elsewhere"

    def convert(self, source):
        return Hop({"model.else": b"x"}, "a runtime that nobody has")


class Partless:
    name, source, target, cost, obstacle = "partless", "torch", "x", 1, str
'''
ENTRIES = """[regraft.converters]
newer = theirs:Newer
foreign = theirs:ForeignOnnx
raises = theirs:Raises
nonsense = theirs:Nonsense
nowhere = theirs:Nowhere
partless = theirs:Partless
absent = no_such_module_of_theirs:Converter
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as a site-packages with that one distribution."""
    folder = tmp_path / "site"
    info = folder / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "theirs.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def forget() -> None:
        members.converters.cache_clear()
        members._third_parties.cache_clear()
        sys.modules.pop("theirs", None)

    monkeypatch.syspath_prepend(str(site))
    forget()
    yield
    forget()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).normal(0, 0.25, (16, 4)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "tiny", [x], [y], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_converter_of_another_distribution_makes_a_package_that_is_verified(
    installed: None, model: Path, tmp_path: Path
) -> None:
    made = room.convert(model, to="newer", out=tmp_path / "newer")
    assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.PASS, "converted"), made.evidence.summary
    assert made.evidence.parameters["route"] == ["newer_from_onnx"]
    assert onnx.load(tmp_path / "newer/graphs/model.onnx").opset_import[0].version == 21


def test_what_is_installed_beside_it_does_not_change_the_projects_own_ways(installed: None) -> None:
    assert "foreign_onnx" in [member.name for member in room.converters()]
    ways = [[member.name for member in way] for way in routes("torch", "openvino")]
    first = ways.index(["foreign_onnx"])  # cheaper, and yet after all of ours
    assert first > 0
    assert all(("foreign_onnx" in way) == (number >= first) for number, way in enumerate(ways))
    assert [member.name for member in next(routes("torch", "newer"))] == ["onnx_from_torch", "newer_from_onnx"]


def test_broken_ones_are_left_out_and_nothing_else_notices(installed: None, model: Path, tmp_path: Path) -> None:
    assert set(room.broken()) == {"partless", "absent"}
    assert room.broken()["partless"] == "has no convert"
    assert "no_such_module_of_theirs" in room.broken()["absent"]
    assert room.convert(model, to="openvino", out=tmp_path / "openvino").evidence.verdict is Verdict.PASS
    with pytest.raises(UsageError) as caught:
        room.convert(model, to="x", out=tmp_path / "x")
    assert "newer" in caught.value.hint


@pytest.mark.parametrize(
    ("target", "outcome", "said"),
    [
        ("raised", "failed", "an operator of theirs"),
        ("nothing", "failed", "returned no files"),
        ("elsewhere", "unproven", "no runtime"),
    ],
)
def test_one_that_fails_at_work_is_inconclusive(
    target: str, outcome: str, said: str, installed: None, model: Path, tmp_path: Path
) -> None:
    made = room.convert(model, to=target, out=tmp_path / target)
    assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.INCONCLUSIVE, outcome)
    found = [one for one in made.evidence.findings if one.rule == "convert.failed"]
    assert all(said in one.message for one in found)
    assert found
    assert (tmp_path / target).exists() == (outcome == "unproven")


def test_doctor_tells_why_they_are_broken(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))  # for the process in which each is tried
    evidence = doctor(store=open_store(tmp_path / "store"), import_runtimes=False)
    told = {f.where.field: f for f in evidence.findings if f.where and f.rule.startswith("RGD-PLG")}
    assert {name for name, finding in told.items() if finding.rule == "RGD-PLG-002"} == {"partless", "absent"}
    assert "convert" in told["partless"].message
    assert evidence.verdict is Verdict.PASS


def test_the_command_line_finds_them(site: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "regraft", "convert", model, "--to", "newer", "-o", tmp_path / "made"]
    environment = {"PYTHONPATH": str(site), "PATH": "", "REGRAFT_STORE": str(tmp_path / "store"), "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "converted: model.onnx is newer now" in done.stdout
