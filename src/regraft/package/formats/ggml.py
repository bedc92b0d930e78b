"""The GGML files from before GGUF: a signature, fixed hyperparameters that depend on the network, then tensors.

Source: ggml examples; whisper.cpp, models/convert-silero-vad-to-ggml.py, for the one layout that is read in full.
The hyperparameters have no names and no lengths, so tensors of other networks stay unknown.
"""

from __future__ import annotations

from regraft.errors import Damaged
from regraft.package.formats.gguf import GGML_TYPES
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.reader import Reader

_SIGNATURES = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt", b"algg": "ggla"}
_VERSIONED = ("ggmf", "ggjt", "ggla")
_SILERO = b"silero-"
_MAX_RANK = 4
_MAX_NAME_BYTES = 256
_MAX_TENSORS = 10_000
_MAX_LAYERS = 64


class Ggml:
    """Format `ggml`: containers ggml, ggmf, ggjt and ggla."""

    name = "ggml"
    title = "GGML model (before GGUF)"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".ggml", ".bin")

    def matches(self, probe: Probe) -> bool:
        """One of the four signatures, and a small integer behind it."""
        head = probe.head
        return head[:4] in _SIGNATURES and len(head) >= 16 and int.from_bytes(head[4:8], "little") < 1 << 20

    def describe(self, probe: Probe) -> Description:
        """The container's version; tensors for networks whose hyperparameters are known.

        Raises:
            Damaged: the tensors of a known layout do not fit.
        """
        container = _SIGNATURES.get(probe.head[:4])
        if container is None or len(probe.head) < 16:
            raise Damaged("not a GGML signature", where=probe.reader.where)
        number = int.from_bytes(probe.head[4:8], "little")
        if container in _VERSIONED:
            return Description(version=str(number), metadata={"container": container})
        if number <= 32 and probe.head[8:].startswith(_SILERO):
            return _silero(probe.reader, number)
        return Description(metadata={"container": container})


def _silero(reader: Reader, name_length: int) -> Description:
    """Silero VAD: name, version (3), window, context, layers × 3, LSTM (2), head (2), then tensors to the end."""
    name = reader.read_exactly(8, name_length).decode("utf-8", "replace")
    position = 8 + name_length
    major, minor, patch, window, context, layers = _integers(reader, position, 6)
    if not 0 <= layers <= _MAX_LAYERS:
        raise Damaged(f"{layers} layers", where=reader.where)
    position += 4 * (6 + 3 * layers + 4)
    problems: list[Problem] = []
    tensors = []
    while position < reader.size:
        tensor, position = _tensor(reader, position)
        tensors.append(tensor)
        if len(tensors) > _MAX_TENSORS:
            raise Damaged(f"more than {_MAX_TENSORS} tensors", where=reader.where)
    if position > reader.size:
        what = f"truncated: {position - reader.size} bytes of tensor data are missing"
        problems.append(Problem(what, kind="truncated"))
    facts = {
        "container": "ggml",
        "architecture": name,
        "model_version": f"{major}.{minor}.{patch}",
        "window_samples": str(window),
        "context_samples": str(context),
    }
    return Description(tensors=tuple(tensors), metadata=facts, problems=tuple(problems))


def _tensor(reader: Reader, at: int) -> tuple[Tensor, int]:
    """The tensor at an offset, and the offset behind its data. Extents are stored from the innermost."""
    rank, name_length, number = _integers(reader, at, 3)
    if not (0 <= rank <= _MAX_RANK and 0 < name_length <= _MAX_NAME_BYTES and number in GGML_TYPES):
        raise Damaged(f"no tensor at offset {at}", where=reader.where)
    shape = tuple(_integers(reader, at + 12, rank))[::-1]
    if min(shape, default=0) < 0:
        raise Damaged(f"a negative extent at offset {at}", where=reader.where)
    name = reader.read_exactly(at + 12 + 4 * rank, name_length).decode("utf-8", "replace")
    word, block, block_bytes = GGML_TYPES[number]
    size = Tensor(name, word, shape).elements // block * block_bytes
    return Tensor(name, word, shape, size), at + 12 + 4 * rank + name_length + size


def _integers(reader: Reader, at: int, count: int) -> list[int]:
    raw = reader.read_exactly(at, 4 * count)
    return [int.from_bytes(raw[i : i + 4], "little", signed=True) for i in range(0, len(raw), 4)]
