"""A network whose runtime shows no operators: it answers, and nothing inside of it can be looked at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from regraft.errors import Damaged, Unsupported
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model, Reduce


class OpaqueModel(ABC):
    """What compiled networks have in common: a stated signature, one pass, and a refusal of everything else.

    A member says `runtime`, and what it was made from, which can be looked at.

    Args:
        signature: its ports.
        precision: what it computes in.
        where: how errors name it.
    """

    runtime: str
    made_from: str
    """What to look at in its place, as `the ONNX graph that it was compiled from`."""

    def __init__(self, signature: Signature, precision: str, *, where: str) -> None:
        self.where = where
        self.allows_nan = False
        self._signature = signature
        self._precision = precision

    @property
    def signature(self) -> Signature:
        """As its maker wrote it down."""
        return self._signature

    @property
    def effective_precision(self) -> str:
        """What it was compiled for."""
        return self._precision

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass.

        Raises:
            BadFeeds: what is fed does not fit the signature.
            Unsupported: the runtime stops.
            Damaged: it has another number of outputs than it says.
        """
        return self._run(checked_feeds(self._signature, feeds, where=self.where, allows_nan=self.allows_nan))

    @abstractmethod
    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for feeds in the signature's order, in memory that no later pass writes to."""

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._unseen()

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._unseen()

    def cast(self, dtype: str) -> Model:
        """Not offered.

        Raises:
            Unsupported: always.
        """
        raise self._unseen()

    @abstractmethod
    def close(self) -> None:
        """Free what the runtime holds."""

    def _named(self, values: Sequence[Array]) -> dict[str, Array]:
        """Values in the order of the stated outputs, by their names."""
        ports = self._signature.outputs
        if len(values) != len(ports):
            raise Damaged(f"it says that it has {len(ports)} outputs, and has {len(values)}", where=self.where)
        return {port.name: value.astype(port.dtype, copy=False) for port, value in zip(ports, values, strict=True)}

    def _stopped(self, runtime: str, error: Exception, feeds: Mapping[str, Array]) -> Unsupported:
        sizes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        return Unsupported(f"{runtime} stopped: {said(error)}", where=self.where, hint=f"feeds: {sizes}")

    def _unseen(self) -> Unsupported:
        return Unsupported(
            f"{self.runtime} shows no operators of a network", where=self.where, hint=f"look at {self.made_from}"
        )


def as_asked(model: Model, precision: str | None) -> Model:
    """The model, where it computes in what was asked for.

    Raises:
        Unsupported: it was compiled for another precision; it is closed.
    """
    if precision not in (None, model.effective_precision):
        model.close()
        raise Unsupported(
            f"it was compiled for {model.effective_precision} and cannot be told {precision}", where=model.where
        )
    return model


def said(error: Exception) -> str:
    """What an exception of a foreign runtime says, on one line."""
    return " ".join(str(error).split())[:400]
