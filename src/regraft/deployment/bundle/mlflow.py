"""An MLflow model: `MLmodel` with the flavours `onnx` and `python_function`, written without MLflow.

Source: MLflow Model format, `MLmodel` of `mlflow.onnx.save_model` in MLflow 3.17; tensor-based signatures.
"""

from __future__ import annotations

import json
import platform
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.bundle.interface import Carried, Contents, comparison, place
from regraft.deployment.bundle.versions import installed, requirement
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.package.formats import Port

_UNKNOWN = ("bfloat16", "string")
"""Element types for which MLflow's tensors have no numpy dtype."""


class MlFlow:
    """`--as mlflow`."""

    name = "mlflow"
    takes = ("onnxruntime",)

    def readme(self, contents: Contents) -> str:
        """In Python, and behind the Open Inference Protocol by MLflow's own MLServer."""
        return (
            "    pip install mlflow-skinny pandas -r requirements.txt\n"
            "    python -c \"import mlflow; print(mlflow.pyfunc.load_model('.').metadata.signature)\"\n\n"
            "Behind the Open Inference Protocol:\n\n"
            "    pip install mlflow mlserver mlserver-mlflow\n"
            f"    mlflow models serve -m . -n {contents.name} --enable-mlserver --env-manager local -p 8080\n"
            + comparison(contents, f"./{self.graph(contents)}", "localhost:8080/mlflow-model")
        )

    def graph(self, contents: Contents) -> str:
        """Beside `MLmodel`, where MLflow looks for it."""
        return contents.network.file

    def write(self, contents: Contents, folder: Path) -> None:
        """`MLmodel` and its environments, the network beside it, where MLflow looks for it; the rest in `files/`."""
        texts = [Carried.made(name, text.encode(), "config") for name, text in _files(contents).items()]
        kept = [(one.name if one.kind == "model" else f"files/{one.name}", one) for one in contents.files]
        place(contents, folder, [*kept, *((one.name, one) for one in (*contents.extra, *texts))])


def _files(contents: Contents) -> dict[str, str]:
    graph, python = contents.network, platform.python_version()
    for port in (*graph.inputs, *graph.outputs):
        if port.dtype in _UNKNOWN:
            raise Unsupported(
                f"MLflow has no tensors of {port.dtype}, as {port.name!r} is",
                where=contents.reference,
                hint="--as plain, or --as triton",
            )
    data = graph.file
    listed = "".join(f"{requirement(name)}\n" for name in ("numpy", "onnx", "onnxruntime"))
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": listed.split()}],
    }
    env = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    described = {
        "flavors": {
            "onnx": {
                "code": None,
                "data": data,
                "onnx_session_options": None,
                "onnx_version": installed("onnx")[1],
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": data,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": python,
            },
        },
        "model_size_bytes": sum(one.size_bytes for one in contents.files),
        "model_uuid": uuid.UUID(contents.digest[:32]).hex,
        "signature": {"inputs": _tensors(graph.inputs), "outputs": _tensors(graph.outputs), "params": None},
    }
    # JSON is YAML: nothing has to be quoted in another way
    written = {"MLmodel": described, "conda.yaml": conda, "python_env.yaml": env}
    return {name: json.dumps(value, indent=2) + "\n" for name, value in written.items()} | {"requirements.txt": listed}


def _tensors(ports: tuple[Port, ...]) -> str:
    return json.dumps(
        [
            {
                "name": port.name,
                "type": "tensor",
                "tensor-spec": {
                    "dtype": port.dtype,
                    "shape": [extent if isinstance(extent, int) else -1 for extent in port.shape or ()],
                },
            }
            for port in ports
        ]
    )
