"""Files of data and graphs that libraries write: safetensors, ONNX, Keras, HDF5, GGUF, pictures, tables, archives."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import compressed, tarred, zipped
from tests.trust.corpus.graph_files import onnx_model, saved_model, tflite
from tests.trust.corpus.wire_writers import gguf

CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def samples() -> Iterator[Sample]:
    """By library."""
    groups = (_safetensors(), _onnx(), _keras(), _hdf5(), _graphs(), _media(), _archives())
    for group in groups:
        for what, files in group.items():
            yield Sample(f"benign files/{what}", files, kind="benign")


def _safetensors() -> dict[str, dict[str, bytes]]:
    from safetensors.numpy import save

    rng = np.random.default_rng(0)
    weights = {f"layers.{i}.weight": rng.normal(size=(8, 8)).astype(np.float32) for i in range(4)}
    return {
        "safetensors": {"model.safetensors": save(weights)},
        "safetensors with metadata": {"model.safetensors": save(weights, {"format": "pt", "total": "4"})},
        "safetensors, empty tensor": {"model.safetensors": save({"a": np.zeros((0, 3), np.float32)})},
        "safetensors, many types": {
            "model.safetensors": save({str(t): np.zeros(3, t) for t in ("float16", "int8", "uint8", "int64", "bool")})
        },
        "safetensors, shards": {
            "model-00001-of-00002.safetensors": save({"a": np.zeros(3, np.float32)}),
            "model-00002-of-00002.safetensors": save({"b": np.zeros(3, np.float32)}),
            "model.safetensors.index.json": json.dumps(
                {
                    "metadata": {"total_size": 24},
                    "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
                }
            ).encode(),
        },
    }


def _onnx() -> dict[str, dict[str, bytes]]:
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    found = {
        "ONNX": {"model.onnx": onnx_model()},
        "ONNX, Microsoft's operators": {"model.onnx": onnx_model(domain="com.microsoft", operator="Gelu")},
    }
    for name, operator in (
        ("softmax", "Softmax"),
        ("relu", "Relu"),
        ("argmax", "ArgMax"),
        ("normalizer", "LpNormalization"),
    ):
        graph = helper.make_graph(
            [helper.make_node(operator, ["x"], ["y"])],
            "g",
            [value("x", 1, ["n", 4])],
            [value("y", TensorProto.INT64 if operator == "ArgMax" else 1, None)],
        )
        found[f"ONNX, {name}"] = {"model.onnx": helper.make_model(graph).SerializeToString()}
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", 1, ["n", 64])],
        [value("y", 1, ["n", 64])],
        [weight],
    )
    found["ONNX, a matrix"] = {"model.onnx": helper.make_model(graph).SerializeToString()}
    branches = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "t", [], [value("b", 1, None)])
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branches, else_branch=branches)
    graph = helper.make_graph(
        [chosen], "g", [value("x", 1, [2]), value("c", TensorProto.BOOL, [])], [value("y", 1, None)]
    )
    found["ONNX, a branch"] = {"model.onnx": helper.make_model(graph).SerializeToString()}
    external = onnx_model(location="weights.bin")
    found["ONNX, external data"] = {"model.onnx": external, "weights.bin": np.ones(2, np.float32).tobytes()}
    return found


def _keras() -> dict[str, dict[str, bytes]]:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import tempfile
    from pathlib import Path

    import keras
    from keras import layers

    nets: dict[str, list[Any]] = {
        "dense": [layers.Input((4,)), layers.Dense(3, activation="relu"), layers.Dropout(0.1), layers.Dense(1)],
        "convolution": [
            layers.Input((8, 8, 1)),
            layers.Conv2D(2, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ],
        "recurrent": [
            layers.Input((5, 2)),
            layers.Bidirectional(layers.LSTM(2)),
            layers.Dense(1, kernel_regularizer="l2"),
        ],
        "embedding": [
            layers.Input((5,)),
            layers.Embedding(10, 4),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2, "softmax"),
        ],
    }
    found: dict[str, dict[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, stack in nets.items():
            model = keras.Sequential(stack)
            model.compile("adam", "mse", metrics=["mae"])
            for suffix in ("keras", "h5", "weights.h5"):
                path = Path(folder) / f"{what}.{suffix}"
                (model.save_weights if suffix == "weights.h5" else model.save)(path)
                found[f"Keras, {what}, {suffix}"] = {path.name: path.read_bytes()}
            found[f"Keras, {what}, json"] = {"model.json": model.to_json().encode()}
    return found


def _hdf5() -> dict[str, dict[str, bytes]]:
    import h5py

    found = {}
    for what, options in (("plain", {}), ("compressed", {"compression": "gzip"}), ("chunked", {"chunks": (5, 5)})):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_group("layer").create_dataset("kernel", data=np.zeros((10, 10)), **options)
            file.attrs["title"] = "weights"
        found[f"HDF5, {what}"] = {"data.h5": buffer.getvalue()}
    return found


def _graphs() -> dict[str, dict[str, bytes]]:
    ordinary = ("Conv2D", "Relu", "RestoreV2", "SaveV2", "StatefulPartitionedCall", "ParseExampleV2", "HashTableV2")
    return {
        "GGUF": {"model.gguf": gguf({"general.architecture": "llama", "tokenizer.chat_template": CHAT})},
        "SavedModel": {"saved_model.pb": saved_model(*ordinary), "fingerprint.pb": b"\x08\x01"},
        "SavedModel, table of an asset": {
            "saved_model.pb": saved_model("InitializeTableFromTextFileV2", "LookupTableFindV2"),
            "assets/vocabulary.txt": b"a\nb\n",
        },
        "TFLite": {"model.tflite": tflite()},
        "TFLite, detection": {"model.tflite": tflite("TFLite_Detection_PostProcess")},
    }


def _media() -> dict[str, dict[str, bytes]]:
    from PIL import Image

    found = {}
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(buffer, kind)
        found[f"picture, {kind}"] = {f"picture.{kind.lower()}": buffer.getvalue()}
    rows = b"a,b,label\n" + b"".join(b"%d,%d,%d\n" % (i, i * i, i % 2) for i in range(100))
    raw = np.random.default_rng(0).normal(size=4096).astype(np.float32).tobytes()
    return {
        **found,
        "table": {"data.csv": rows},
        "lines of JSON": {"data.jsonl": b'{"text": "hello"}\n' * 20},
        "merges": {"merges.txt": b"#version: 0.2\n" + b"t h\nh e\n" * 50},
        "vocabulary": {"vocab.txt": b"[PAD]\n[UNK]\n" + b"".join(b"word%d\n" % i for i in range(500))},
        "floats without a header": {"embeddings.bin": raw},
        "card": {"README.md": b"---\nlicense: mit\n---\n# Model\n\n```python\nimport os\nos.system('ls')\n```\n"},
        "licence": {"LICENSE": b"MIT License\n\nCopyright (c) 2026\n"},
    }


def _archives() -> dict[str, dict[str, bytes]]:
    members = {"config.json": b"{}", "vocab.txt": b"a\nb\n", "data/x.csv": b"a,b\n1,2\n"}
    return {
        "zip": {"bundle.zip": zipped(members)},
        "tar.gz": {"bundle.tar.gz": tarred(members, mode="w:gz")},
        "tar.xz": {"bundle.tar.xz": tarred(members, mode="w:xz")},
        "gz of a table": {"data.csv.gz": compressed(b"a,b\n1,2\n" * 50, "gz")},
        "zst of lines": {"data.jsonl.zst": compressed(b'{"a": 1}\n' * 50, "zst")},
        "wheel": {
            "lib-1.0-py3-none-any.whl": zipped(
                {
                    "lib/__init__.py": b"x = 1\n",
                    "lib-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
                    "lib-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: lib\nVersion: 1.0\n",
                }
            )
        },
    }
