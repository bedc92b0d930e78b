from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import torch

from regraft.errors import Damaged, UsageError
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime.image import (
    ImageEncoder,
    ImagePreprocessing,
    preprocessing_for,
    preprocessing_of,
    preprocessor_config,
)
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.verified import VerifiedFiles
from regraft.workflow.load import load


def test_pixels_are_scaled_normalised_and_laid_out():
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    picture[..., 0] = 255
    prepare = ImagePreprocessing(2, 2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0))
    batch = prepare([picture, picture])
    assert batch.shape == (2, 3, 2, 2)
    assert batch.dtype == np.float32
    assert batch[0, :, 0, 0].tolist() == [1.0, -0.5, 0.0]
    flipped = ImagePreprocessing(2, 2, channels="BGR", layout="NHWC", scale=1.0)([picture])
    assert flipped[0, 0, 0].tolist() == [0.0, 0.0, 255.0]
    grey = ImagePreprocessing(2, 2, channels="L", mean=(0.0,), std=(1.0,))([picture[..., 0]])
    assert grey.shape == (1, 1, 2, 2)


def test_the_shorter_side_is_scaled_and_the_centre_cut_out():
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 15:25] = 255
    prepare = ImagePreprocessing(10, 10, resize="shorter", shorter_side=10, resample="nearest")
    assert prepare([wide]).min() == 1.0  # only the white middle is left


def test_resizing_is_pillows(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "a.png")
    wanted = np.asarray(PIL.Image.fromarray(noise).resize((8, 6), PIL.Image.Resampling.BICUBIC), dtype=np.float32)
    prepare = ImagePreprocessing(6, 8, resample="bicubic", scale=1.0, layout="NHWC")
    assert np.array_equal(prepare([tmp_path / "a.png"])[0], wanted)


def test_what_is_no_picture_is_refused(tmp_path):
    prepare = ImagePreprocessing(4, 4)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(Damaged):
        prepare([tmp_path / "x.png"])
    with pytest.raises(UsageError, match="no picture"):
        prepare([np.zeros((4, 4, 3), dtype=np.float32)])


def test_features_of_a_real_network_come_from_its_output_or_a_tap(opennsfw):
    prepare = ImagePreprocessing(224, 224, layout="NHWC", channels="BGR", scale=1.0, mean=(104.0, 117.0, 123.0))
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 60, 60, 3), dtype=np.uint8))
    model = load(opennsfw)
    outputs = ImageEncoder(model, prepare).encode(pictures, batch_size=2)
    assert outputs.shape == (3, 2)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)  # probabilities
    name = [tap.name for tap in model.trace({"input:0": prepare(pictures[:1])}) if "Pool" in tap.operator][-1]
    assert ImageEncoder(model, prepare, tap=name).encode(pictures, batch_size=2).shape[0] == 3
    with pytest.raises(UsageError, match="no tap"):
        ImageEncoder(model, prepare, tap="nope").encode(pictures)
    with pytest.raises(UsageError, match="no pictures"):
        ImageEncoder(model, prepare).encode([])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (32, 32, "exact", None)),
        (
            {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 30},
             "image_mean": [0, 0, 0], "image_std": [1, 1, 1]},
            (32, 30, "shorter", 40),
        ),
    ],
)  # fmt: skip
def test_a_preprocessor_configuration_is_read(tmp_path, settings, wanted):
    (tmp_path / "model.bin").write_bytes(b"x")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with open_package(tmp_path) as package:
        found = preprocessing_of(VerifiedFiles(package), "model.bin")
    assert (found.height, found.width, found.resize, found.shorter_side) == wanted


@pytest.mark.parametrize(
    "settings", [[1], {"size": -4, "image_mean": [0], "image_std": [1]}, {"size": {}}, {"size": 1e9}]
)
def test_a_damaged_configuration_is_damaged(tmp_path, settings):
    (tmp_path / "model.bin").write_bytes(b"x")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with open_package(tmp_path) as package, pytest.raises(Damaged):
        preprocessing_of(VerifiedFiles(package), "model.bin")


@pytest.mark.parametrize(
    "preprocessing",
    [
        ImagePreprocessing(20, 30),
        ImagePreprocessing(8, 8, channels="L", mean=(0.5,), std=(0.25,), resample="nearest"),
        ImagePreprocessing(224, 224, resize="shorter", shorter_side=256, resample="bicubic", mean=(0.1, 0.2, 0.3)),
        ImagePreprocessing(10, 12, channels="BGR", layout="NHWC", scale=1.0, mean=(104.0, 117.0, 123.0)),
    ],
)
def test_a_written_configuration_is_read_as_it_was(tmp_path, preprocessing):
    (tmp_path / "model.bin").write_bytes(b"x")
    (tmp_path / "preprocessor_config.json").write_bytes(preprocessor_config(preprocessing))
    with open_package(tmp_path) as package:
        assert preprocessing_of(VerifiedFiles(package), "model.bin") == preprocessing


def network(*shape, **attributes):
    module = torch.nn.Identity()
    for name, value in attributes.items():
        setattr(module, name, value)
    return TorchModel(module, inputs=[Port("pixels", "float32", shape)], where="mine")


def test_the_users_code_knows_how_its_network_is_fed_then_the_package_then_custom():
    beside = ImagePreprocessing(7, 7, mean=(1.0, 2.0, 3.0))
    stated = network("batch", 3, 20, 24, preprocessor_config={"image_mean": 0.5, "image_std": [0.2, 0.3, 0.4]})
    found = preprocessing_for(stated, beside)
    assert (found.height, found.width, found.mean, found.std) == (20, 24, (0.5, 0.5, 0.5), (0.2, 0.3, 0.4))
    assert preprocessing_for(network("batch", 3, 20, 24), beside) == beside
    usual = preprocessing_for(network("batch", 3, 20, 24))
    assert (usual.height, usual.width, usual.mean[0], usual.channels) == (20, 24, 0.485, "RGB")
    grey = preprocessing_for(network("batch", 1, 8, 8))
    assert (grey.height, grey.channels, grey.mean) == (8, "L", (0.0, 0.0, 0.0))
    for wrong in ({"image_mean": [1, 2], "image_std": 1}, {"size": "large"}, {"image_mean": 0.5}):
        with pytest.raises(Damaged, match="preprocessor"):
            preprocessing_for(network("batch", 3, 20, 24, preprocessor_config=wrong))
