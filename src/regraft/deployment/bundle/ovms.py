"""OpenVINO Model Server: a repository with versions and `config.json`.

Source: OpenVINO Model Server, "Preparing a Model Repository" and "Serving Multiple Models with a Config File".
"""

from __future__ import annotations

import json
from pathlib import Path

from regraft.deployment.bundle.interface import Carried, Contents, comparison, place
from regraft.deployment.bundle.triton import default_name, versioned

_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class Ovms:
    """`--as ovms`."""

    name = "ovms"
    takes = ("openvino", "onnxruntime")

    def readme(self, contents: Contents) -> str:
        """The server's command."""
        return (
            "    docker run --rm -p 8000:8000 -v $PWD/models:/models openvino/model_server:2025.4 \\\n"
            "        --config_path /models/config.json --rest_port 8000\n"
            + comparison(contents, self.graph(contents), f"localhost:8000/{contents.name}")
        )

    def graph(self, contents: Contents) -> str:
        """In the first version; the server finds it by its ending."""
        return f"models/{contents.name}/1/{default_name(contents)}"

    def write(self, contents: Contents, folder: Path) -> None:
        """`models/config.json` and `models/NAME/1/`; the precision is pinned, as OpenVINO lowers it by default."""
        hint = _HINTS.get(contents.network.precision, "f32")
        config = {
            "model_config_list": [
                {
                    "config": {
                        "name": contents.name,
                        "base_path": f"/models/{contents.name}",
                        "plugin_config": {"INFERENCE_PRECISION_HINT": hint},
                    }
                }
            ]
        }
        told = Carried.made("models/config.json", json.dumps(config, indent=2).encode() + b"\n", "config")
        made = [(one.name, one) for one in (told, *contents.extra)]
        place(contents, folder, [*versioned(contents, default_name(contents)), *made])
