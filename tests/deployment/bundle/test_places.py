"""Two files never have one place, and what was written is what was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from regraft.deployment.bundle import bundle as bundle_as_it_is
from regraft.deployment.bundle import layouts
from regraft.deployment.bundle.plain import Plain
from regraft.errors import Damaged, Unsupported, UsageError
from regraft.workflow.bundle import bundle


@pytest.mark.parametrize("weights", ["README.md", "MLmodel", "bundle.json", "evidence", "files"])
def test_weights_that_are_called_as_a_file_of_the_layout_are_refused(weights: str, tiny: Any, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source/net.onnx", weights=weights).parent
    (source / "labels.json").write_text("{}")
    with pytest.raises(UsageError) as caught:
        bundle(source, layout="mlflow", out=tmp_path / "out")
    assert repr(weights) in caught.value.what
    assert "the bundle's own" in caught.value.what or "labels.json" in caught.value.what
    assert not (tmp_path / "out").exists()
    bundle(source, layout="plain", out=tmp_path / "out")  # as the hint says
    assert (tmp_path / "out/model" / weights).read_bytes() == (source / weights).read_bytes()


def test_a_graph_beside_weights_of_the_usual_name_keeps_its_own(tiny: Any, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source/net.onnx", weights="model.onnx").parent
    bundle(source, layout="triton", out=tmp_path / "out")
    model = tmp_path / "out/models/source"
    assert 'default_model_filename: "net.onnx"' in (model / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(model / "1/net.onnx")
    assert np.isfinite(session.run(None, {"x": np.ones((1, 16), np.float32)})[0]).all()
    with pytest.raises(UsageError, match=r"'net.onnx' of the package, and 'model.onnx' of the package"):
        bundle(source, layout="ovms", out=tmp_path / "ovms")


def test_a_package_with_a_readme_keeps_it_in_a_registry(tiny: Any, tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source/net.onnx").parent
    (source / "README.md").write_text("mine")
    (source / "again.md").write_text("mine")
    bundle(source, layout="oci", out=tmp_path / "out")
    (described,) = json.loads((tmp_path / "out/index.json").read_text())["manifests"]
    blobs = tmp_path / "out/blobs"
    manifest = json.loads((blobs / described["digest"].replace(":", "/")).read_text())
    names = [layer["annotations"]["org.cncf.model.filepath"] for layer in manifest["layers"]]
    assert len(set(names)) == len(names)
    layers = {layer["annotations"]["org.cncf.model.filepath"]: layer["digest"] for layer in manifest["layers"]}
    assert (blobs / layers["README.md"].replace(":", "/")).read_text() == "mine"
    assert layers["again.md"] == layers["README.md"], "one content is one blob"
    assert "bundle/README.md" in layers


def test_weights_outside_of_the_folder_of_the_graph_are_written_nowhere(tiny: Any, tmp_path: Path) -> None:
    graph = tiny.write(tmp_path / "source/inner/net.onnx", weights="up.bin")
    (graph.parent / "up.bin").rename(tmp_path / "source/up.bin")
    model = onnx.load(graph, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = "../up.bin" if entry.key == "location" else entry.value
    onnx.save(model, graph)
    with pytest.raises(Unsupported):
        bundle(tmp_path / "source", layout="plain", out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["source"]


def test_a_layout_that_writes_another_network_is_found_out(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Halving(Plain):
        """Writes the graph with half of every weight."""

        def write(self, contents: Any, folder: Path) -> None:
            super().write(contents, folder)
            path = folder / self.graph(contents)
            model = onnx.load(path)
            stored = model.graph.initializer[0]
            stored.raw_data = (np.frombuffer(stored.raw_data, np.float32) / 2).tobytes()
            onnx.save(model, path)

    monkeypatch.setattr("regraft.deployment.bundle.plain.Plain", Halving)
    layouts.cache_clear()
    try:
        with pytest.raises(Damaged, match="its output 'y' is off by"):
            bundle_as_it_is(tiny.write(tmp_path / "net.onnx"), layout="plain", out=tmp_path / "out")
    finally:
        layouts.cache_clear()
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_damaged_graph_is_not_sent_to_where_it_comes_from(tiny: Any, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(Unsupported) as caught:
        bundle(path, layout="plain", out=tmp_path / "out")
    assert "--to onnx" not in caught.value.hint
    assert "regraft inspect" in caught.value.hint
