"""What is timed is the package as it is used: from strings or pictures to the logits of its head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from regraft.deployment.bench import bench
from regraft.deployment.bench.messages import Start
from regraft.deployment.bench.passes import load_passes
from regraft.deployment.convert import convert
from regraft.errors import Unsupported, UsageError
from regraft.package.formats import Port
from regraft.package.reference import parse_reference
from regraft.runtime.image import ImagePreprocessing, preprocessor_config
from regraft.runtime.pipeline import PROGRAM, SCHEMA, STATIC, Description, Stage, TextSettings, description_json
from regraft.runtime.torch_export import exported
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_program import program_bytes
from regraft.workflow.bench import bench as scan_and_bench
from regraft.workflow.bench import permit_by_scan
from regraft.workflow.load import permitted

CLASSES = ("no", "perhaps", "yes")


class Means(nn.Module):
    """Means over a grid of a picture of 3 × 16 × 16 pixels: 12 features."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(pixels * self.scale, 8).flatten(1)


@pytest.fixture
def image_package(tmp_path: Path) -> Callable[..., Path]:
    """An image classifier as `adapt` writes it, learnt from pictures of some shape."""

    def write(name: str, picture_shape: tuple[int, ...]) -> Path:
        folder = tmp_path / name
        (folder / "encoder").mkdir(parents=True)
        model = TorchModel(Means(), inputs=[Port("pixels", "float32", ("batch", 3, 16, 16))])
        program = exported(model, {"pixels": np.zeros((2, 3, 16, 16), np.float32)})
        (folder / "encoder/model.pt2").write_bytes(program_bytes(program))
        (folder / "encoder/preprocessor_config.json").write_bytes(preprocessor_config(ImagePreprocessing(16, 16)))
        weight = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
        save_file({"weight": weight, "bias": np.zeros(3, np.float32)}, folder / "head.safetensors")
        stage = Stage("encoder/model.pt2", PROGRAM, "head.safetensors")
        description = Description(SCHEMA, "image-classification", stage, CLASSES, picture_shape=picture_shape)
        (folder / "regraft.json").write_bytes(description_json(description))
        return folder

    return write


@pytest.fixture
def text_package(asset: Callable[[str, str, str], Path], tmp_path: Path) -> Path:
    """A classifier over the word vectors of wordllama as `adapt` writes it: no special tokens, no limit."""
    import shutil

    wordllama = asset("pypi", "wordllama", "0.4.0.post1") / "wordllama"
    folder = tmp_path / "text"
    (folder / "encoder").mkdir(parents=True)
    shutil.copy(wordllama / "weights/l2_supercat_256.safetensors", folder / "encoder/model.safetensors")
    shutil.copy(wordllama / "tokenizers/l2_supercat_tokenizer_config.json", folder / "encoder/tokenizer.json")
    weight = np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32)
    save_file({"weight": weight, "bias": np.zeros(3, np.float32)}, folder / "head.safetensors")
    stage = Stage("encoder/model.safetensors", STATIC, "head.safetensors", ("mean",), True)
    settings = TextSettings(special_tokens=False)
    description = Description(SCHEMA, "text-classification", stage, CLASSES, settings)
    (folder / "regraft.json").write_bytes(description_json(description))
    return folder


def start(folder: Path, **options: object) -> Start:
    with permitted(str(folder)) as allowed:
        return msgspec.structs.replace(
            Start(parse_reference(folder), path=allowed.path, permit=allowed.permit), **options
        )


def test_a_text_classifier_is_measured_to_its_logits_before_and_after_conversion(
    text_package: Path, tmp_path: Path
) -> None:
    made = convert(text_package, to="onnx", out=tmp_path / "onnx")
    assert made.path is not None
    texts = ("a film that stays with you", "no")
    answers = []
    for folder in (text_package, made.path):
        passes = load_passes(start(folder, texts=texts))
        assert passes.inputs().startswith("2 texts of 1–6 tokens"), "as many as without the tokenizer's own"
        answers.append(passes.of(2)()["logits"])
        assert passes.inputs().endswith("to logits")
    assert answers[0].shape == (2, 3)
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)  # logits near 1, floor 1e-7


def test_an_encoder_is_measured_to_its_vectors(asset: Callable[[str, str, str], Path]) -> None:
    passes = load_passes(start(asset("pypi", "wordllama", "0.4.0.post1"), texts=("one", "two words")))
    assert "vectors" not in passes.inputs(), "no pass was made while it was loaded: the first one is to be timed"
    assert passes.of(5)().shape == (5, 256)
    assert passes.inputs().endswith("to vectors")


def test_an_image_classifier_is_measured_from_pictures_to_its_logits(
    image_package: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_package("torch", (28, 20))
    made = convert(folder, to="onnx", out=tmp_path / "onnx", permit=permit_by_scan(None))
    assert made.path is not None, made.evidence.summary
    for place in (folder, made.path):
        passes = load_passes(start(place))
        assert passes.inputs() == "made-up grey pictures of 28 × 20 pixels, prepared as 16 × 16 RGB"
        assert passes.is_made_up
        assert passes.of(5)()["logits"].shape == (5, 3)
        assert passes.inputs().endswith(", to logits")
    feeds = tmp_path / "feeds.safetensors"
    save_file({"pixels": np.zeros((4, 3, 16, 16), np.float32)}, feeds)
    arrays = load_passes(start(made.path, feeds_file=str(feeds)))
    assert (arrays.own_batch, arrays.inputs(), arrays.is_made_up) == (4, "pixels 4×3×16×16", False)


def test_preparing_pictures_is_part_of_what_is_measured(image_package: Callable[..., Path]) -> None:
    """Reducing 3 million pixels takes milliseconds on any machine; the network sees 16 × 16 pixels in both cases."""
    small, large = image_package("small", (16, 16)), image_package("large", (1500, 2000, 3))
    evidence = scan_and_bench([small, large], runs=5, starts=1, batch_sizes=(1,), time_limit_s=5, compare=False)
    cost = {one.of["package"]: one.value for one in evidence.measurements if one.name == "cpu_time"}
    assert cost["large"] > 2 * cost["small"]


def test_a_package_that_says_nothing_about_pictures_is_fed_arrays(
    image_package: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_package("silent", ())
    made = convert(folder, to="onnx", out=tmp_path / "onnx", permit=permit_by_scan(None))
    assert made.path is not None
    unknown = load_passes(start(made.path))
    assert unknown.inputs().startswith("made-up coloured pictures of 480 × 640")
    (made.path / "preprocessor_config.json").unlink()
    evidence = bench(made.path, runs=2, starts=1, batch_sizes=(1,))
    (inputs,) = evidence.parameters["inputs"].values()  # type: ignore[union-attr]
    assert inputs == "made up from the signature"


def test_texts_are_not_said_to_have_been_measured_where_nothing_reads_them(
    image_package: Callable[..., Path], tmp_path: Path, network: Callable[..., Path]
) -> None:
    for ref in (image_package("pictures", (16, 16)), network(tmp_path / "net.onnx")):
        with pytest.raises(Unsupported, match="takes no texts"):
            load_passes(start(ref, texts=("one",)))


def test_arrays_without_rows_are_refused(tmp_path: Path, network: Callable[..., Path]) -> None:
    feeds = tmp_path / "feeds.safetensors"
    save_file({"x": np.zeros((0, 3, 32), np.float32)}, feeds)
    with pytest.raises(UsageError, match="no rows"):
        load_passes(start(network(tmp_path / "net.onnx"), feeds_file=str(feeds)))
