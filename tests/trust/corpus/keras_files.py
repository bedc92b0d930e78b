"""Keras models: layers that carry code, names that loading imports and calls, files that loading opens."""

from __future__ import annotations

import base64
import io
import json
import marshal
from collections.abc import Iterator
from typing import Any

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import zipped
from tests.trust.corpus.opcodes import PAYLOAD

Config = dict[str, Any]


def harmful_code(expression: str) -> bytes:
    """Marshalled code of a lambda, compiled here and never run."""
    return marshal.dumps(compile(expression, "<lambda>", "eval").co_consts[0])


_SHELL = "lambda x: __import__('os').system('echo pwned') or x"
_HIDDEN = "lambda x: __builtins__['ev' + 'al'](bytes.fromhex('31').decode()) or x"


def obj(module: str | None, class_name: str, /, **config: Any) -> Config:
    """A serialised object of Keras 3."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def sequential(*layers: Config) -> Config:
    """A model."""
    return obj(
        "keras", "Sequential", name="s", layers=[obj("keras.layers", "InputLayer", batch_shape=[None, 4]), *layers]
    )


def lambda_layer(expression: str) -> Config:
    """A Lambda of Keras 3."""
    code = base64.b64encode(harmful_code(expression)).decode()
    inner = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    return obj("keras.layers", "Lambda", name="l", function=inner)


def old_lambda(expression: str) -> Config:
    """A Lambda of Keras 2."""
    code = base64.encodebytes(harmful_code(expression)).decode()
    config = {"name": "l", "function": [code, None, None], "function_type": "lambda", "output_shape_type": "raw"}
    return {"class_name": "Lambda", "config": config}


def archive(model: Config, **members: bytes) -> bytes:
    """A .keras file."""
    files = {"metadata.json": b'{"keras_version": "3.9.0"}', "config.json": json.dumps(model).encode()}
    return zipped({**files, **members})


def hdf5(model: Config | str, **attributes: str) -> bytes:
    """A .h5 file, written by h5py."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["model_config"] = model if isinstance(model, str) else json.dumps(model)
        file.attrs["keras_version"] = "2.15.0"
        for key, value in attributes.items():
            file.attrs[key] = value
        file.create_group("model_weights")
    return buffer.getvalue()


def samples() -> Iterator[Sample]:
    """One object that loading acts on, in a model, in each container."""
    for what, (layer, source) in _objects().items():
        yield Sample(f"keras/{what}", {"model.keras": archive(sequential(layer))}, source=source)
    old_model = {"class_name": "Sequential", "config": {"name": "s", "layers": [old_lambda(_SHELL)]}}
    hidden = {"class_name": "Sequential", "config": {"name": "s", "layers": [old_lambda(_HIDDEN)]}}
    bad_loss = json.dumps({"loss": {"class_name": "function", "module": "os", "config": "system"}})
    files: dict[str, tuple[dict[str, bytes], str]] = {
        "h5, Lambda": ({"model.h5": hdf5(old_model)}, "CVE-2024-3660"),
        "h5, hidden Lambda": ({"model.h5": hdf5(hidden)}, "CVE-2024-3660"),
        "h5, Lambda in a nested model": (
            {"model.h5": hdf5({"class_name": "Functional", "config": {"layers": [old_model]}})},
            "",
        ),
        "h5, Keras 3 object": ({"model.h5": hdf5(sequential(obj("subprocess", "Popen", args=COMMANDS)))}, ""),
        "h5 under another name": ({"weights.bin": hdf5(old_model)}, ""),
        "h5, loss of the training configuration": (
            {"model.h5": hdf5({"class_name": "Sequential", "config": {"layers": []}}, training_config=bad_loss)},
            "modelaudit issue 687",
        ),
        "json, Lambda": ({"model.json": json.dumps(old_model).encode(), "model.weights.h5": hdf5("{}")}, ""),
        "tfjs, Lambda": (
            {
                "model.json": json.dumps(
                    {"format": "layers-model", "modelTopology": {"model_config": old_model}, "weightsManifest": []}
                ).encode()
            },
            "",
        ),
        "json, object of another module": (
            {"model.json": json.dumps(sequential(obj("os", "system", command="x"))).encode()},
            "",
        ),
        "archive, config twice": ({"model.keras": _two_configs()}, ""),
        "archive, config by another case": (
            {
                "model.keras": zipped(
                    [
                        ("config.json", json.dumps(sequential()).encode()),
                        ("Config.json", b"{}"),
                        ("metadata.json", b"{}"),
                        ("config.json", json.dumps(sequential(lambda_layer(_SHELL))).encode()),
                    ]
                )
            },
            "",
        ),
        "archive, compile configuration": (
            {
                "model.keras": archive(
                    {**sequential(), "compile_config": {"optimizer": obj("os", "system"), "loss": "mse"}}
                )
            },
            "",
        ),
        "archive, build configuration": (
            {"model.keras": archive({**sequential(), "build_config": {"input_shape": obj("builtins", "eval")}})},
            "",
        ),
        "archive, pickled weights": (
            {"model.keras": archive(sequential(), **{"model.weights.npz": PAYLOAD})},
            "modelscan pull 262",
        ),
        "archive, pickled asset": (
            {"model.keras": archive(sequential(), **{"assets/tokenizer/vocabulary": PAYLOAD})},
            "",
        ),
        "archive, asset that leads out": (
            {"model.keras": archive(sequential(), **{"assets/../../../.bashrc": b"x"})},
            "CVE-2025-12060",
        ),
        "archive under another name": ({"model.zip": archive(sequential(lambda_layer(_SHELL)))}, ""),
        "archive, metadata that cannot be parsed": (
            {
                "model.keras": zipped(
                    {"metadata.json": b"{", "config.json": json.dumps(sequential(lambda_layer(_SHELL))).encode()}
                )
            },
            "",
        ),
    }
    for what, (content, source) in files.items():
        yield Sample(f"keras/{what}", content, source=source)


COMMANDS = "echo pwned"


def _two_configs() -> bytes:
    safe, harmful = (json.dumps(model).encode() for model in (sequential(), sequential(lambda_layer(_SHELL))))
    return zipped([("metadata.json", b"{}"), ("config.json", harmful), ("config.json", safe)])


def _objects() -> dict[str, tuple[Config, str]]:
    function = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}
    return {
        "Lambda": (lambda_layer(_SHELL), "CVE-2024-3660"),
        "hidden Lambda": (lambda_layer(_HIDDEN), "CVE-2024-3660"),
        "Lambda that opens a socket": (
            lambda_layer("lambda x: __import__('socket').create_connection(('127.0.0.1', 9)) and x"),
            "",
        ),
        "Lambda that writes a file": (lambda_layer("lambda x: open('/tmp/x', 'w').write('x') and x"), ""),
        "Lambda that reads globals": (lambda_layer("lambda x: x.__class__.__init__.__globals__['os'].system('x')"), ""),
        "Lambda for an output shape": (
            obj("keras.layers", "Lambda", function="relu", output_shape=lambda_layer(_SHELL)["config"]["function"]),
            "",
        ),
        "Lambda, code in another key": (
            obj(
                "keras.layers",
                "Lambda",
                function={
                    "class_name": "__lambda__",
                    "module": "builtins",
                    "config": {"code": base64.b64encode(harmful_code(_SHELL)).decode()},
                },
            ),
            "",
        ),
        "lambda as an initializer": (
            obj("keras.layers", "Dense", units=1, kernel_initializer=lambda_layer(_SHELL)["config"]["function"]),
            "",
        ),
        "lambda as an activation": (
            obj("keras.layers", "Activation", activation=lambda_layer(_SHELL)["config"]["function"]),
            "",
        ),
        "subprocess": (obj("subprocess", "Popen", args=["echo"]), "CVE-2025-1550"),
        "os.system": (obj("os", "system", command=COMMANDS), "CVE-2025-1550"),
        "subprocess as an inner object": (
            obj("keras.layers", "Dense", units=obj("subprocess", "run", args=["echo"])),
            "CVE-2025-1550",
        ),
        "builtins.eval": (obj("builtins", "eval", source="1"), "CVE-2025-1550"),
        "function by name": (obj("keras.layers", "Activation", activation=function), ""),
        "get_file": (obj("keras.utils", "get_file", fname="x", origin="http://127.0.0.1/x"), "CVE-2025-8747"),
        "get_file, inner module": (
            obj("keras.src.utils.file_utils", "get_file", origin="http://127.0.0.1/x"),
            "CVE-2025-8747",
        ),
        "enable_unsafe_deserialization": (obj("keras.config", "enable_unsafe_deserialization"), "CVE-2025-9906"),
        "enable_unsafe_deserialization, inner module": (
            obj("keras.src.saving.serialization_lib", "enable_unsafe_deserialization"),
            "CVE-2025-9906",
        ),
        "TorchModuleWrapper": (
            obj("keras.layers", "TorchModuleWrapper", module={"class_name": "__bytes__", "config": {"value": "gASV"}}),
            "CVE-2025-49655",
        ),
        "TFSMLayer": (obj("keras.layers", "TFSMLayer", filepath="//127.0.0.1/share"), "CVE-2026-1462"),
        "vocabulary that is a file": (obj("keras.layers", "StringLookup", vocabulary="/etc/passwd"), "CVE-2025-12058"),
        "vocabulary that is an address": (
            obj("keras.layers", "TextVectorization", vocabulary="http://169.254.169.254/x"),
            "CVE-2025-12058",
        ),
        "load_model": (obj("keras.saving", "load_model", filepath="/tmp/x.keras", safe_mode=False), ""),
        "load_data": (obj("keras.datasets.reuters", "load_data", path="/tmp/x.npz"), "CVE-2025-9905"),
        "numpy.load": (obj("numpy", "load", file="/tmp/x.npy", allow_pickle=True), ""),
        "pickle.loads": (obj("pickle", "loads", data="x"), ""),
        "importlib": (obj("importlib", "import_module", name="os"), ""),
        "keras.utils.custom code": (obj("keras.src.utils.python_utils", "func_load", code="4wAAAA=="), ""),
        "tensorflow py_function": (obj("tensorflow", "py_function", func="x"), ""),
        "tensorflow write_file": (obj("tensorflow.io", "write_file", filename="/tmp/x", contents="x"), ""),
        "Wrapper around a dangerous layer": (obj("keras.layers", "TimeDistributed", layer=lambda_layer(_SHELL)), ""),
        "Bidirectional around a dangerous layer": (
            obj("keras.layers", "Bidirectional", layer=obj("os", "popen", cmd="x")),
            "",
        ),
        "dangerous regulariser": (
            obj("keras.layers", "Dense", units=1, kernel_regularizer=obj("runpy", "run_path", path="x")),
            "",
        ),
    }
