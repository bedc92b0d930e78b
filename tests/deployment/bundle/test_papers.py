"""What a bundle says of itself: nothing of the sender's folders, nothing that a name of a stranger could steer."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.wrappers_pb2 import StringValue

from regraft.deployment.bundle.escaping import markdown, markdown_code, pbtxt, without_folders
from regraft.deployment.bundle.versions import installed, requirement
from regraft.workflow.bundle import bundle


@pytest.mark.parametrize("layout", ["plain", "oci"])
def test_the_folder_of_the_source_stays_at_home(layout: str, tiny: Any, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "secret-customer/net.onnx")
    evidence = bundle(source, layout=layout, out=tmp_path / "out")
    own = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and "evidence" not in path.parts]
    stored = {one["sha256"] for one in json.loads((tmp_path / "out/bundle.json").read_text())["evidence"]}
    for path in own:
        if path.name not in stored:  # evidence is carried byte for byte
            assert b"secret-customer" not in path.read_bytes(), path
    told = json.loads((tmp_path / "out/bundle.json").read_text())["package"]
    assert (told["reference"], told["sha256"]) == ("net.onnx", evidence.materials[0].sha256)
    (found,) = [one for one in evidence.findings if one.rule == "RGH-PTH-001"]
    assert "inspect" in found.data["kinds"]


@pytest.mark.parametrize("layout", ["plain", "triton", "ovms", "mlflow"])
def test_the_readme_names_a_graph_that_is_there(layout: str, tiny: Any, tmp_path: Path) -> None:
    """The receiver compares the server with it, and has nothing of the sender's."""
    bundle(tiny.write(tmp_path / "a net's.onnx"), layout=layout, out=tmp_path / "out")
    (line,) = [line for line in (tmp_path / "out/README.md").read_text().splitlines() if "regraft verify" in line]
    _, _, graph, server = shlex.split(line)
    assert (tmp_path / "out" / graph).is_file()
    assert server.startswith("oip+http://localhost:")


HOSTILE = 'x"\n# Heading\n[a](http://b) `c` \\ ü'


def test_a_port_with_line_breaks_steers_neither_readme_nor_configuration(tiny: Any, tmp_path: Path) -> None:
    bundle(tiny.write(tmp_path / "net.onnx", input_name=HOSTILE), layout="triton", out=tmp_path / "out")
    readme = (tmp_path / "out/README.md").read_text().splitlines()
    assert "# Heading" not in readme
    config = (tmp_path / "out/models/net/config.pbtxt").read_text()
    (line,) = [line for line in config.splitlines() if line.startswith("input")]
    assert pbtxt(HOSTILE) in line


def test_a_file_name_with_line_breaks_stays_on_its_line(tiny: Any, tmp_path: Path) -> None:
    bundle(tiny.write(tmp_path / "a\n# Heading `x`.onnx"), layout="plain", out=tmp_path / "out")
    assert not [line for line in (tmp_path / "out/README.md").read_text().splitlines() if line.startswith("# H")]


def test_a_string_of_protobuf_is_read_back_as_it_was() -> None:
    assert text_format.Parse(f"value: {pbtxt(HOSTILE)}", StringValue()).value == HOSTILE


def test_markdown_shows_what_it_is_given() -> None:
    assert markdown("<b>*x*</b>\u202e") == r"\<b\>\*x\*\</b\>" + r"\\u202e"
    assert markdown("Apache-2.0") == "Apache-2.0"
    assert markdown_code("a`b\n") == "``a`b\\n``"


def test_a_path_is_told_by_its_base_name() -> None:
    assert without_folders("off from /home/me/a.onnx: 3") == "off from a.onnx: 3"
    assert without_folders("from https://host/a/b.onnx, 1/2") == "from https://host/a/b.onnx, 1/2"


def test_a_module_is_required_by_the_distribution_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As onnxruntime by onnxruntime-gpu, or by no distribution that says so."""
    (tmp_path / "strange_runtime").mkdir()
    (tmp_path / "strange_runtime/__init__.py").touch()
    described = tmp_path / "strange_runtime_gpu-1.2.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-runtime-gpu\nVersion: 1.2\n")
    (described / "top_level.txt").write_text("strange_runtime\n")
    assert requirement("strange_runtime") == "strange_runtime"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installed("strange_runtime") == ("strange-runtime-gpu", "1.2")
    assert requirement("strange_runtime") == "strange-runtime-gpu==1.2"


def test_code_that_travels_is_told(tiny: Any, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source/net.onnx").parent
    (source / "modeling.py").write_text("print('hello')\n")
    evidence = bundle(source, layout="oci", out=tmp_path / "out")
    (found,) = [one for one in evidence.findings if one.rule == "RGH-COD-001"]
    assert found.data["files"] == ["modeling.py"]
    without = bundle(source, layout="plain", out=tmp_path / "plain")
    assert "RGH-COD-001" not in [one.rule for one in without.findings]
    assert not (tmp_path / "plain/model/modeling.py").exists()


def test_a_scan_that_did_not_end_is_told_in_any_layout(tiny: Any, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source/net.onnx").parent
    (source / "state.pkl").write_bytes(b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00]q")  # ends within an opcode
    for layout in ("plain", "oci"):
        evidence = bundle(source, layout=layout, out=tmp_path / layout)
        assert "RGH-SCN-002" in [one.rule for one in evidence.findings], evidence.parameters["evidence"]
