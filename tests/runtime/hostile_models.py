"""Models whose code has taken over its process, as a stranger's could; built there by `module:function`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from crashing_models import Doubler

import regraft.runtime.isolated_worker as worker
from regraft.runtime.interface import Tap

ANNOUNCED_BYTES = 3_000_000_000


class Deaf(Doubler):
    """After its first pass nobody reads what is asked."""

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        worker._read_exactly = lambda count: time.sleep(600)
        return super().__call__(feeds)


class Announcing(Doubler):
    """Announces more than it sends."""

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        places = [{"name": str(i), "dtype": "uint8", "shape": [ANNOUNCED_BYTES]} for i in range(int(feeds["x"][0]))]
        header = msgspec.json.encode({"message": {"type": "Done"}, "arrays": places})

        def say(self: Any, answer: Any, arrays: Any = None) -> None:
            self._answers.write(len(header).to_bytes(8, "little") + header)
            self._answers.flush()

        worker._Worker._say = say
        return {}


class Endless(Doubler):
    """Never ends a trace."""

    def trace(self, feeds: dict[str, np.ndarray], *, taps: Any = None, reduce: Any = None) -> Iterator[Tap]:
        while True:
            yield Tap("t", "Mul", "net", 0, value=np.zeros(1 << 18, dtype="float32"), inputs=("x",))


class Painting(Doubler):
    """Speaks to the terminal."""

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if feeds["x"][0] > 0:
            raise RuntimeError("\x1b]0;owned\x07 red\u202e")
        os.write(2, b"\x1b[31mbye\x07")
        os._exit(3)


class Evading(Doubler):
    """Answers every question but the one that was asked, once it is built."""

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        say = worker._Worker._say
        worker._Worker._say = lambda self, answer, arrays=None: say(self, worker.Applied({}), arrays)
        return {}


def undescribed(content: bytes) -> Doubler:
    """Tells a result where a description was asked for."""
    say = worker._Worker._say
    worker._Worker._say = lambda self, answer, arrays=None: say(self, worker.Done(), arrays)
    return Doubler(content)


Plain = Doubler
