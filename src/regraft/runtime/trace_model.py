"""A trace directory as a `Model`: it answers what was recorded, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.errors import BadFeeds, Unsupported
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.record.digest import digest_bytes
from regraft.runtime.feeds import FeedCase
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.trace_files import INDEX, KeptPass, KeptTap, KeptTensor, TraceFiles

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.verified import VerifiedFiles


class TraceRuntime:
    """Opens `trace:DIR`."""

    name = "trace"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """The index of a folder that the user calls a trace."""
        return package.ref.scheme == "trace" and path == INDEX

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TraceModel:
        """Read the index; arrays are read when they are asked for, from the folder opened once more for that."""
        model = TraceModel(TraceFiles(open_package(files.package.ref)))
        if options.precision not in (None, model.effective_precision):
            raise Unsupported(
                f"it was recorded in {model.effective_precision}, {options.precision} is asked for", where=model.where
            )
        return model


class TraceModel:
    """Passes that were recorded, all in one precision.

    Args:
        files: the trace; closed with this model.
        precision: whose passes are meant; None for that of the trace.
    Raises:
        Unsupported: no pass was recorded in that precision.
    """

    runtime = "trace"

    def __init__(self, files: TraceFiles, *, precision: str | None = None) -> None:
        self.files = files
        self.where = files.where
        self.allows_nan = True
        self.effective_precision = precision or files.index.precision
        self.passes = tuple(
            one for one in files.index.passes if (one.precision or files.index.precision) == self.effective_precision
        )
        if not self.passes:
            raise Unsupported(
                f"no pass was recorded in {self.effective_precision}",
                where=self.where,
                hint="record one, or let the model that can still be run be the REFERENCE",
            )

    @functools.cached_property
    def signature(self) -> Signature:
        """Inputs and outputs of the passes; an extent that differs between them is None."""
        return Signature(
            tuple(_ports([one.inputs for one in self.passes])), tuple(_ports([_outputs(one) for one in self.passes]))
        )

    @property
    def has_inputs(self) -> bool:
        """Whether the inputs were kept, not only their digests."""
        return all(kept.file is not None for one in self.passes for kept in one.inputs)

    def recorded_feeds(self) -> list[FeedCase]:
        """What the passes were made with.

        Raises:
            Unsupported: the inputs were not kept.
        """
        return [
            FeedCase(one.name or f"pass {number}", {kept.name: self.files.array(kept) for kept in one.inputs}, "data")
            for number, one in enumerate(self.passes)
        ]

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """The outputs that were recorded on these very feeds; a pass that names none ends in its last tap.

        Raises:
            BadFeeds: an input is missing or unknown.
            Unsupported: there is no pass with these values.
        """
        return {kept.name: self.files.array(kept) for kept in _outputs(self._pass_of(feeds))}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """The taps that were recorded on these very feeds, in order, then the outputs that are none of them."""
        wanted = None if taps is None else frozenset(taps)
        for order, kept in enumerate(_taps(self._pass_of(feeds))):
            if wanted is None or kept.name in wanted:
                value = self.files.array(kept)
                yield Tap(
                    kept.name,
                    kept.operator,
                    kept.scope,
                    order,
                    value=value if reduce is None else None,
                    kept=None if reduce is None else reduce(value),
                    inputs=kept.inputs,
                )

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TraceModel:
        """Not possible: nothing can be computed.

        Raises:
            Unsupported: always.
        """
        raise Unsupported("a trace is a record: no part of it can be run", where=self.where)

    def cast(self, dtype: str) -> TraceModel:
        """The passes that were recorded in that precision.

        Raises:
            Unsupported: there are none.
        """
        return TraceModel(self.files, precision=dtype)

    def close(self) -> None:
        """Close the files."""
        self.files.close()

    def _pass_of(self, feeds: Feeds) -> KeptPass:
        names = [port.name for port in self.signature.inputs]
        if set(feeds) != set(names):
            raise BadFeeds(
                f"the feeds are {', '.join(feeds) or 'none'}, the trace has {', '.join(names) or 'none'}",
                where=self.where,
            )
        for one in self.passes:
            if len(one.inputs) == len(feeds) and all(self._is_same(kept, feeds.get(kept.name)) for kept in one.inputs):
                return one
        raise Unsupported(
            f"these feeds are none of the {len(self.passes)} that were recorded, and a trace cannot be run",
            where=self.where,
            hint="give no feeds: the recorded ones are taken" if self.has_inputs else "give the feeds of the recording",
        )

    def _is_same(self, kept: KeptTensor, value: Array | None) -> bool:
        if value is None or value.shape != kept.shape:
            return False
        data = _stored_bytes(value, kept.dtype)
        if data is None:
            return False
        if kept.sha256 is not None:
            return digest_bytes(data) == kept.sha256
        return _stored_bytes(self.files.array(kept), kept.dtype) == data


def _stored_bytes(value: Array, dtype: str) -> bytes | None:
    """The little-endian bytes of a value in the dtype of its record; None when it is not such a value."""
    import numpy as np

    if dtype == "bfloat16" and value.dtype == np.float32:
        bits = np.ascontiguousarray(value).view(np.uint32)
        return None if np.any(bits & np.uint32(0xFFFF)) else (bits >> np.uint32(16)).astype("<u2").tobytes()
    if value.dtype.name != dtype:
        return None
    return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()


def _outputs(one: KeptPass) -> tuple[KeptTensor, ...]:
    return one.outputs or one.taps[-1:]


def _taps(one: KeptPass) -> Iterator[KeptTap]:
    yield from one.taps
    named = {tap.name for tap in one.taps}
    for out in one.outputs:
        if out.name not in named:
            yield KeptTap(name=out.name, dtype=out.dtype, shape=out.shape, file=out.file, key=out.key)


def _ports(passes: Sequence[Sequence[KeptTensor]]) -> Iterator[Port]:
    """One port a name: the extents that all passes share."""
    for kept in passes[0]:
        shapes = [other.shape for rows in passes for other in rows if other.name == kept.name]
        if any(len(shape) != len(kept.shape) for shape in shapes):
            yield Port(kept.name, kept.dtype, None)
        else:
            extents = zip(*shapes, strict=True)
            yield Port(kept.name, kept.dtype, tuple(e[0] if len(set(e)) == 1 else None for e in extents))
