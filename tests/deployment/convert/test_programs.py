"""Exported programs go where eager networks go."""

from __future__ import annotations

from pathlib import Path

from regraft.record.evidence import Verdict
from regraft.record.store import Store
from regraft.runtime.torch_module import TorchModel
from regraft.workflow.convert import convert


def test_a_program_becomes_onnx_with_its_sizes_free(attention: TorchModel, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    program = convert(attention, to="torch-export", out=tmp_path / "program", store=store)
    assert program.evidence.verdict is Verdict.PASS, program.evidence.summary
    graph = convert(tmp_path / "program", to="onnx", out=tmp_path / "graph", store=store)
    assert graph.evidence.verdict is Verdict.PASS, graph.evidence.summary
    assert graph.evidence.parameters["from"] == "torch-export"
    assert not [one for one in graph.evidence.findings if one.rule == "convert.narrower"]
