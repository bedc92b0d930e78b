"""A folder that answers by itself: the model, a runner of a few lines, a sample; MLServer serves it as it is."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.bundle.interface import Carried, Contents, comparison, place
from regraft.deployment.bundle.runners.sameness import stored
from regraft.deployment.bundle.versions import requirement
from regraft.runtime.datatypes import PROTOCOL_TYPES

if TYPE_CHECKING:
    from regraft.package.formats import Port
    from regraft.runtime.interface import Array

_RUNNERS = Path(__file__).parent / "runners"
_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class Plain:
    """`--as plain`."""

    name = "plain"
    takes = ("onnxruntime", "openvino")

    def readme(self, contents: Contents) -> str:
        """The runner's commands, and MLServer's."""
        texts = '    python texts.py "a text" "another one"\n' if contents.network.texts is not None else ""
        return (
            "    pip install -r requirements.txt\n"
            "    python run.py --check                  # does it answer here as it did where it was packed?\n"
            "    python run.py feeds.npz answers.npz    # arrays by name\n"
            f"{texts}\n"
            "Behind the Open Inference Protocol, by MLServer, in an environment of its own:\n\n"
            "    pip install mlserver -r requirements.txt\n"
            "    MLSERVER_PARALLEL_WORKERS=0 mlserver start .\n"
            + comparison(contents, self.graph(contents), f"localhost:8080/{contents.name}", feeds="sample/feeds.npz")
        )

    def graph(self, contents: Contents) -> str:
        """Below `model/`."""
        return f"model/{contents.network.file}"

    def write(self, contents: Contents, folder: Path) -> None:
        """Files of the model below `model/`, everything else beside the runner."""
        names = ("run.py", "sameness.py", "serve.py", *(("texts.py",) if contents.network.texts is not None else ()))
        runners = [Carried.made(name, (_RUNNERS / name).read_bytes(), "code") for name in names]
        kept = [(f"model/{one.name}", one) for one in contents.files]
        made = [(one.name, one) for one in (*contents.extra, *_made(contents), *runners)]
        place(contents, folder, [*kept, *made])


def _requirements(contents: Contents) -> str:
    """Libraries that the network was run with here, in their versions."""
    graph = contents.network
    names = ["numpy", graph.runtime, *(["tokenizers"] if graph.texts is not None else [])]
    return "".join(f"{requirement(name)}\n" for name in names)


def _made(contents: Contents) -> list[Carried]:
    graph = contents.network
    settings: dict[str, object] = {
        "model": f"model/{graph.file}",
        "runtime": graph.runtime,
        "precision": graph.precision,
        "hint": _HINTS.get(graph.precision, "f32"),
        "inputs": [port.name for port in graph.inputs],
        "outputs": [port.name for port in graph.outputs],
    }
    if graph.texts is not None:
        told = msgspec.to_builtins(graph.texts)
        settings["text"] = {**told, "tokenizer": f"model/{graph.texts.tokenizer}"}
    served = {
        "name": contents.name,
        "implementation": "serve.Served",
        "inputs": [_tensor(port) for port in graph.inputs],
        "outputs": [_tensor(port) for port in graph.outputs],
    }
    return [
        Carried.made("runner.json", _json(settings), "config"),
        Carried.made("model-settings.json", _json(served), "config"),
        Carried.made("requirements.txt", _requirements(contents).encode(), "config"),
        Carried.made("sample/feeds.npz", _npz(graph.feeds), "config"),
        Carried.made("sample/answers.npz", _npz(graph.answers), "config"),
    ]


def _tensor(port: Port) -> dict[str, object]:
    shape = [extent if isinstance(extent, int) else -1 for extent in port.shape or ()]
    return {"name": port.name, "datatype": PROTOCOL_TYPES[port.dtype], "shape": shape}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _npz(arrays: Mapping[str, Array]) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.savez(file, **{name: stored(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    return file.getvalue()
