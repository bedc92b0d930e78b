from __future__ import annotations

import numpy as np
import pytest

from regraft.errors import BadFeeds
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature
from regraft.workflow.load import load

SIGNATURE = Signature((Port("ids", "int64", ("batch", "tokens")), Port("mask", "float32", ("batch", "tokens", 2))))


def _good() -> dict[str, np.ndarray]:
    return {"ids": np.zeros((2, 3), dtype=np.int64), "mask": np.zeros((2, 3, 2), dtype=np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": None}, "missing: mask"),
        ({"idz": np.zeros(1)}, "did you mean 'ids'"),
        ({"ids": np.zeros((2, 3), dtype=np.int32)}, "is int32, the model wants int64"),
        ({"ids": np.zeros((2,), dtype=np.int64)}, r"has shape \(2,\), the model wants \(batch, tokens\)"),
        ({"mask": np.zeros((2, 3, 5), dtype=np.float32)}, "axis 2 is fixed"),
        ({"mask": np.zeros((2, 4, 2), dtype=np.float32)}, "'tokens' is 3 in 'ids' and 4 in 'mask'"),
        ({"mask": np.full((2, 3, 2), np.nan, dtype=np.float32)}, "holds NaN"),
        ({"ids": [[1, 2, 3]]}, "is list, not a numpy array"),
    ],
)
def test_each_wrong_feed_has_one_clear_error(change, message):
    feeds = {name: value for name, value in (_good() | change).items() if value is not None}
    with pytest.raises(BadFeeds, match=message):
        checked_feeds(SIGNATURE, feeds, where="m")


def test_infinity_passes_and_nan_does_on_request():
    feeds = _good() | {"mask": np.full((2, 3, 2), -np.inf, dtype=np.float32)}
    assert checked_feeds(SIGNATURE, feeds, where="m")["mask"] is feeds["mask"]
    feeds["mask"] = feeds["mask"] * np.float32(np.nan)
    assert "mask" in checked_feeds(SIGNATURE, feeds, where="m", allows_nan=True)


def test_every_runtime_refuses_the_same_feeds(opennsfw):
    for options in ({"runtime": "onnxruntime"}, {"runtime": "openvino"}):
        model = load(opennsfw, **options)
        for feeds in (
            {},
            {"input:0": np.zeros((1, 3, 224, 224), dtype=np.float32)},
            {"input:0": np.zeros((1, 224, 224, 3), dtype=np.float64)},
            {"input:0": np.full((1, 224, 224, 3), np.nan, dtype=np.float32)},
        ):
            with pytest.raises(BadFeeds):
                model(feeds)
            with pytest.raises(BadFeeds):
                next(model.trace(feeds))
