"""joblib files: arrays between opcodes are stepped over, compressed ones are seen through."""

from __future__ import annotations

import io
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest

from regraft.errors import RegraftError
from regraft.package.formats.interface import Description, Probe
from regraft.package.formats.joblib import Joblib
from regraft.package.formats.pickle_streams import follow_joblib
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


def probe(source: Path | bytes) -> Probe:
    reader = BytesReader(source, where="test") if isinstance(source, bytes) else FileReader(source)
    return Probe(reader, "test.joblib")


def described(source: Path | bytes) -> Description:
    assert Joblib().matches(probe(source))
    return Joblib().describe(probe(source))


def dumped(value: object, compress: object = 0) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer, compress=compress)
    return buffer.getvalue()


MODEL = {
    "coef": np.arange(12.0).reshape(3, 4),
    "order": np.asfortranarray(np.zeros((5, 2), np.float32)),
    "text": np.array(["a", "bcd"]),
    "objects": np.array([{"inner": 1}, None], object),
    "empty": np.zeros((0, 3), np.int8),
    "struct": np.zeros(4, [("a", "<f4"), ("b", "<i8")]),
    "after": "still read",
}
EXPECTED = [
    ("coef", "float64", (3, 4)),
    ("order", "float32", (5, 2)),
    ("text", "str", (2,)),
    ("objects", "object", (2,)),
    ("empty", "int8", (0, 3)),
    ("struct", "struct", (4,)),
]


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3), ("lz4", 3)])
def test_every_array_in_every_compression(compress: object) -> None:
    description = described(dumped(MODEL, compress))
    assert [(t.name, t.dtype, t.shape) for t in description.tensors or ()] == EXPECTED
    assert description.metadata["object"] == "Dict"
    assert description.problems == ()


def test_the_oldest_compression_is_seen_through() -> None:
    content = zlib.compress(pickle.dumps({"a": 1}, 2))
    data = b"ZF" + hex(len(content)).ljust(19).encode() + content
    assert described(data).metadata["compression"] == "zlib"


def test_pickles_inside_of_object_arrays_are_followed() -> None:
    streams = list(follow_joblib(BytesReader(dumped(MODEL), where="test")))
    assert len(streams) == 2
    assert all(stream.complete for stream in streams)


def test_a_late_wrapper_is_found() -> None:
    data = dumped([list(range(100_000)), np.zeros(3)])
    assert data.index(b"NumpyArrayWrapper") > 100_000
    assert [t.shape for t in described(data).tensors or ()] == [(3,)]


def test_plain_pickles_and_other_streams_are_left_to_others() -> None:
    for data in (pickle.dumps({"a": 1}), zlib.compress(b"text" * 100), b"\x80\x04", b""):
        assert not Joblib().matches(probe(data))


def test_bytes_after_the_pickle_are_a_problem() -> None:
    assert [p.kind for p in described(dumped(MODEL) + b"second").problems] == ["trailing-data"]


def test_real_keras_weights_in_lz4(asset: Asset) -> None:
    file = asset("pypi", "mtcnn", "1.0.0") / "mtcnn/assets/weights/onet.lz4"
    reference = joblib.load(file)
    description = described(file)
    assert [t.shape for t in description.tensors or ()] == [array.shape for array in reference]
    assert sum(t.elements for t in description.tensors or ()) == sum(array.size for array in reference) == 389_040
    assert description.problems == ()


@pytest.mark.parametrize(
    ("package", "version", "path", "name"),
    [
        (
            "spam-detector-ai",
            "2.3.1",
            "spam_detector_ai/models/logistic_regression/logistic_regression_model.joblib",
            "sklearn.linear_model._logistic.LogisticRegression",
        ),
        (
            "spam-detector-ai",
            "2.3.1",
            "spam_detector_ai/models/random_forest/random_forest_model.joblib",
            "sklearn.ensemble._forest.RandomForestClassifier",
        ),
        (
            "profanity-check",
            "1.0.3",
            "profanity_check/data/model.joblib",
            "sklearn.calibration.CalibratedClassifierCV",
        ),
    ],
)
def test_real_sklearn_models(asset: Asset, package: str, version: str, path: str, name: str) -> None:
    description = described(asset("pypi", package, version) / path)
    assert description.metadata["object"] == name
    assert description.problems == ()
    assert description.tensors


def test_logistic_regression_has_the_arrays_of_its_object(asset: Asset) -> None:
    folder = asset("pypi", "spam-detector-ai", "2.3.1") / "spam_detector_ai/models/logistic_regression"
    description = described(folder / "logistic_regression_model.joblib")
    shapes = {t.name: t.shape for t in description.tensors or ()}
    assert shapes == {"classes_": (2,), "n_iter_": (1,), "coef_": (1, 1500), "intercept_": (1,)}


def test_damage_leaks_no_other_error() -> None:
    dice = random.Random(2)
    for data in (dumped(MODEL), dumped(MODEL, 3), dumped(MODEL, ("lz4", 3))):
        for step in range(200):
            changed = bytearray(data[: len(data) * step // 50] if step < 50 else data)
            for _ in range(dice.randint(1, 5) if step >= 50 else 0):
                changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            if Joblib().matches(probe(bytes(changed))):
                try:
                    Joblib().describe(probe(bytes(changed)))
                except RegraftError:
                    continue
