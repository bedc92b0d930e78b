"""A model behind a server: the Open Inference Protocol (KServe v2) over HTTP, as a `Model` like any other.

Source: Open Inference Protocol, REST API: model metadata and inference requests with tensor data as JSON.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from regraft.errors import NetworkFailure, NotFound, Offline, ReferenceSyntaxError, Unsupported
from regraft.package.formats import Port
from regraft.package.reader import Meter
from regraft.package.sources.http import HttpClient
from regraft.runtime.datatypes import DTYPES, PROTOCOL_TYPES
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap

if TYPE_CHECKING:
    from regraft.package.reference import ModelRef
    from regraft.runtime.interface import Array, Feeds, Reduce

SCHEMES = ("oip+http", "oip+https")
"""`oip+http://host:port/model`, or `…/model/versions/1`."""
_MAX_ANSWER_BYTES = 1 << 30
_FLOATS = ("float16", "bfloat16", "float32", "float64")


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    data: Any = None


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []
    platform: str = ""
    versions: list[str] | None = None


class _Answer(msgspec.Struct, frozen=True):
    outputs: list[_Tensor]


class ServedModel:
    """What a server answers.

    Args:
        ref: with one of `SCHEMES`.
    Raises:
        ReferenceSyntaxError: it names no model.
        NotFound: the server has no such model. NetworkFailure: there is no server, or it speaks something else.
    """

    runtime = "served"

    def __init__(self, ref: ModelRef) -> None:
        host, _, path = ref.location.partition("/")
        if not path:
            raise ReferenceSyntaxError("which model of the server?", where=str(ref), hint=f"{ref.scheme}://{host}/NAME")
        self.where = str(ref)
        self.allows_nan = False
        self._client = HttpClient(Meter())
        self._url = f"{ref.scheme.removeprefix('oip+')}://{host}/v2/models/{path}"
        self.metadata = self._read_metadata()

    @functools.cached_property
    def signature(self) -> Signature:
        """Inputs and outputs as the server's metadata say; an extent of -1 is None."""
        return Signature(
            tuple(self._port(one) for one in self.metadata.inputs),
            tuple(self._port(one) for one in self.metadata.outputs),
        )

    @property
    def effective_precision(self) -> str:
        """That of its outputs: the protocol has no word for what a server computes in, so by these it is judged."""
        found = [port.dtype for port in self.signature.outputs if port.dtype in _FLOATS]
        return found[0] if found else "float32"

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One request.

        Raises:
            Unsupported: the server refuses it; the message is its own.
            NetworkFailure: it does not answer, or answers nonsense.
        """
        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        inputs = [
            {
                "name": name,
                "shape": list(value.shape),
                "datatype": PROTOCOL_TYPES[str(value.dtype)],
                "data": value.ravel().tolist(),
            }
            for name, value in checked.items()
        ]
        # Python writes the shortest decimals that mean the same number, so nothing is rounded on the way.
        body = json.dumps({"inputs": inputs}).encode()
        try:
            answer = self._client.post(f"{self._url}/infer", body, headers={"Content-Type": "application/json"})
            found: _Answer = self._decoded(answer.body(_MAX_ANSWER_BYTES), _Answer)
        except NetworkFailure as error:
            raise Unsupported(f"the server did not answer the request: {error.what}", where=self.where) from error
        return {one.name: self._array(one) for one in found.outputs}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Not possible: a server answers with outputs alone."""
        self._refuse("shows no intermediate tensors")

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> ServedModel:
        """Not possible."""
        self._refuse("cannot be cut")

    def cast(self, dtype: str) -> ServedModel:
        """Not possible."""
        self._refuse(f"cannot be told to compute in {dtype}")

    def close(self) -> None:
        """Nothing is held."""

    def _refuse(self, what: str) -> NoReturn:
        raise Unsupported(f"a served model {what}", where=self.where, hint="verify the package that it serves")

    def _read_metadata(self) -> _Metadata:
        try:
            content, _ = self._client.document(self._url)
        except NotFound as error:
            raise NotFound("the server has no such model", where=self.where) from error
        found: _Metadata = self._decoded(content, _Metadata)
        if not found.inputs or not found.outputs:
            raise Unsupported(
                "the server does not say what the model takes and returns",
                where=self.where,
                hint="name inputs and outputs in its configuration, as `regraft bundle` does",
            )
        return found

    def _decoded(self, content: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise NetworkFailure(f"that is not the Open Inference Protocol: {error}", where=self.where) from error

    def _port(self, one: _Tensor) -> Port:
        if one.datatype not in DTYPES:
            raise Unsupported(f"{one.name!r} is of the unknown type {one.datatype[:40]!r}", where=self.where)
        return Port(one.name, DTYPES[one.datatype], tuple(extent if extent >= 0 else None for extent in one.shape))

    def _array(self, one: _Tensor) -> Array:
        import numpy as np

        dtype = "float32" if one.datatype == "BF16" else DTYPES.get(one.datatype, "")
        try:
            return np.asarray(one.data, dtype=dtype).reshape(one.shape)
        except (TypeError, ValueError) as error:
            raise NetworkFailure(f"output {one.name!r} is not of its shape {one.shape}", where=self.where) from error


def served_model(ref: ModelRef, *, offline: bool) -> ServedModel:
    """The model that a reference of `SCHEMES` names.

    Raises:
        Offline: no network is allowed.
        As `ServedModel`.
    """
    if offline:
        raise Offline("a served model is behind the network", where=str(ref), hint="leave out --offline")
    return ServedModel(ref)


__all__ = ["SCHEMES", "ServedModel", "served_model"]
