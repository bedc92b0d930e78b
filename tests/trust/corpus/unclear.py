"""What only a person can decide: code that looks harmless, operators and names of libraries that are not here."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.configurations import WEIGHTS, encoded
from tests.trust.corpus.graph_files import coreml_with_custom_layer, onnx_model, saved_model, tflite
from tests.trust.corpus.opcodes import call, framed, name, text
from tests.trust.corpus.python_code import repository

_NET = "import torch\n\n\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x\n"
_EXTENSION = b"""<?xml version="1.0"?><net name="n" version="11"><layers>
<layer id="0" name="x" type="Special" version="my_extension"><output><port id="0"/></output></layer>
</layers><edges/></net>"""


def samples() -> Iterator[Sample]:
    """Where neither pass nor fail would be right."""
    for what, files in {**_code(), **_names(), **_operators()}.items():
        yield Sample(f"unclear/{what}", files, kind="unclear")


def _code() -> dict[str, dict[str, bytes]]:
    return {
        "harmless code behind auto_map": repository(_NET, **{"model.safetensors": WEIGHTS}),
        "harmless handler": {
            "handler.py": b"class EndpointHandler:\n    def __call__(self, data):\n        return data\n",
            "config.json": b"{}",
        },
        "code that starts ffmpeg in use": repository(
            _NET
            + "\n    def read_audio(self, p):\n        import subprocess\n        return subprocess.run(['ffmpeg', p])\n"
        ),
        "code of another repository": {
            "config.json": encoded({"auto_map": {"AutoModel": "someone/else--modeling_y.Model"}})
        },
        "code that is missing": {"config.json": encoded({"auto_map": {"AutoModel": "modeling_gone.Model"}})},
        "compiled code behind auto_map": {
            "config.json": encoded({"auto_map": {"AutoModel": "m.Model"}}),
            "m.py": b"from .core import f\nclass Model: pass\n",
            "core.so": b"\x7fELF" + bytes(60),
        },
        "adapter whose class lies in a module of its own": {
            "adapter_config.json": encoded(
                {"peft_type": "LORA", "auto_mapping": {"base_model_class": "M", "parent_library": "mod"}}
            ),
            "mod.py": b"class M: pass\n",
        },
        "adapter whose class lies in os": {
            "adapter_config.json": encoded({"auto_mapping": {"base_model_class": "x", "parent_library": "os"}})
        },
        "requirement from a repository": {"requirements.txt": b"git+https://github.com/someone/something\n"},
    }


def _names() -> dict[str, dict[str, bytes]]:
    return {
        "class of an unknown library": {
            "model.pkl": framed(name("somelib.models", "Net"), b")\x81}", text("depth"), b"K\x03sb")
        },
        "function of an unknown library": {"model.pkl": framed(call("somelib.models", "build", "resnet"))},
        "class of the training script": {
            "model.pkl": framed(name("__main__", "Net"), b")\x81}", text("depth"), b"K\x03sb")
        },
        "Hydra target of an unknown library": {"config.yaml": b"model:\n  _target_: somelib.models.Net\n  depth: 3\n"},
        "Keras layer of an unknown library": {
            "model.json": json.dumps(
                {"module": "somelib.layers", "class_name": "Thing", "config": {}, "registered_name": "somelib>Thing"}
            ).encode()
        },
    }


def _operators() -> dict[str, dict[str, bytes]]:
    return {
        "SavedModel, operator of a library": {"saved_model.pb": saved_model("MyCustomOp")},
        "SavedModel, PyFunc": {"saved_model.pb": saved_model("EagerPyFunc")},
        "TFLite, operator of a library": {"model.tflite": tflite("MyOp")},
        "ONNX, operator of a library": {"model.onnx": onnx_model(domain="com.example", operator="Special")},
        "ONNX, Python operator": {"model.onnx": onnx_model(domain="ai.onnx.contrib", operator="PyOp")},
        "OpenVINO, operator of a library": {"model.xml": _EXTENSION},
        "CoreML, custom layer": {"model.mlmodel": coreml_with_custom_layer()},
    }
