"""Models that end their process, as a broken runtime would; built in another process by `module:function`."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from regraft.errors import BadFeeds
from regraft.package.formats import Port
from regraft.runtime.interface import Signature, Tap


class Doubler:
    """y = 2 x. The first element of x may order something else."""

    runtime = "doubler"
    effective_precision = "float32"
    signature = Signature((Port("x", "float32", ("n",)),), (Port("y", "float32", ("n",)),))

    def __init__(self, content: bytes, *, factor: float = 2.0) -> None:
        self.where = f"doubler of {len(content)} bytes"
        self.allows_nan = False
        self.factor = factor

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = feeds["x"]
        order = int(x.flat[0]) if x.size else 0
        if order == -11:
            print("about to read address 0", flush=True)  # libraries print to stdout, which is no channel of ours
            ctypes.string_at(0)
        elif order == -6:
            os.abort()
        elif order == -9:
            os.kill(os.getpid(), 9)
        elif order == -3:
            os._exit(3)
        elif order == -1:
            time.sleep(600)
        elif order == -2:
            raise BadFeeds("not these", where=self.where, hint="others")
        elif order == -4:
            raise RuntimeError("a library's own words")
        elif order == -5:
            raise MemoryError
        return {"y": x * np.float32(self.factor)}

    def trace(self, feeds: dict[str, np.ndarray], *, taps: Any = None, reduce: Any = None) -> Iterator[Tap]:
        for i in range(5):
            if int(feeds["x"].flat[0]) == -11 and i == 3:
                ctypes.string_at(0)
            if taps is None or f"t{i}" in taps:
                yield Tap(f"t{i}", "Mul", "net", i, value=feeds["x"] * i, inputs=("x",))

    def segment(self, inputs: Any, outputs: Any) -> Doubler:
        return Doubler(b"", factor=10.0 * self.factor)

    def cast(self, dtype: str) -> Doubler:
        twin = Doubler(b"", factor=self.factor)
        twin.effective_precision = dtype
        return twin

    def close(self) -> None:
        pass


def dying(content: bytes) -> Doubler:
    """Dies while it is built."""
    ctypes.string_at(0)
    raise AssertionError(sys.version)


def lying(content: bytes) -> Doubler:
    """Writes nonsense where answers are expected, as code that took over the process would."""
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, b"\xff" * 64)
        except OSError:
            continue
    return Doubler(content)
