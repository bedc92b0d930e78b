"""Voice activity: is there speech in each frame of a recording? WAV beside RTTM."""

from __future__ import annotations

import io
import math
import posixpath
import wave
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.conceptual.evaluation.interface import DataFiles, LoadedModel, Scores
from regraft.errors import Damaged, Unsupported, UsageError
from regraft.record.evidence import JSON

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Model

_MAX_WAV_BYTES = 256 << 20
_MAX_SEGMENTS = 100_000
_LABELS = ("first", "centre", "last", "any", "majority")


class VoiceActivity:
    """Runs a streaming detector frame by frame, carrying its state and the samples before each frame.

    The model takes float audio (1, context + frame), a float state of three axes and, if it has one, an integer
    scalar with the sampling rate; it returns a probability and the next state, as silero-vad 5 and 6 in ONNX do.
    Frames that the recording does not fill are left out.
    """

    name = "voice-activity"
    metrics = ("roc_auc", "accuracy", "f1")
    scoring: Mapping[str, JSON] = {
        "frame": 512,
        "context": 64,
        "rate_hz": 16000,
        "threshold": 0.5,
        "label": "centre",
        "block_s": 1.0,
    }

    def score(self, model: LoadedModel, data: DataFiles, scoring: Mapping[str, JSON]) -> Scores:
        """A score a frame. A frame is speech when its first, centre or last sample is, any of them, or most."""
        import numpy as np

        frame, context, rate_hz = (_whole(scoring, key) for key in ("frame", "context", "rate_hz"))
        label, block_s = scoring["label"], float(str(scoring["block_s"]))
        if label not in _LABELS or frame < 1 or rate_hz < 1 or block_s <= 0 or not 0 <= context <= frame:
            raise UsageError(f"scoring of voice activity: label is one of {', '.join(_LABELS)}; sizes are positive")
        loaded = model.model()
        targets, scores, groups, seconds = [], [], [], 0.0
        for number, wav in enumerate(data.find(None, ".wav")):
            audio = _audio(data, wav, rate_hz)
            speech = np.zeros(len(audio), dtype=bool)
            for start_s, end_s in _segments(data, wav):
                speech[round(start_s * rate_hz) : round(end_s * rate_hz)] = True
            count = len(audio) // frame
            targets.append(_labels(speech[: count * frame].reshape(count, frame), str(label)))
            scores.append(_probabilities(loaded, audio[: count * frame].reshape(count, frame), context, rate_hz))
            groups.append(np.arange(count) * frame // round(block_s * rate_hz) + number * _MAX_SEGMENTS)
            seconds += len(audio) / rate_hz
        joined = np.concatenate(scores)
        decisions = (joined >= float(str(scoring["threshold"]))).astype(np.int64)
        facts: dict[str, JSON] = {"recordings": len(scores), "seconds": seconds}
        return Scores(np.concatenate(targets), joined, decisions, np.concatenate(groups), "frames", facts)


def _whole(scoring: Mapping[str, JSON], key: str) -> int:
    value = scoring[key]
    assert isinstance(value, int)
    return value


def _labels(frames: NDArray[np.bool_], label: str) -> NDArray[np.int64]:
    """(N, frame) speech of each sample → (N,) of each frame."""
    import numpy as np

    one = {"first": 0, "centre": frames.shape[1] // 2, "last": -1}
    if label in one:
        return frames[:, one[label]].astype(np.int64)
    share = frames.mean(axis=1)
    labels: NDArray[np.int64] = (share > (0 if label == "any" else 0.5)).astype(np.int64)
    return labels


def _probabilities(model: Model, frames: NDArray[np.float32], context: int, rate_hz: int) -> NDArray[np.float64]:
    """(N, frame) samples → (N,) probabilities."""
    import numpy as np

    audio, state, rate = _ports(model)
    states: NDArray[np.generic] = np.zeros(
        tuple(extent if isinstance(extent, int) else 1 for extent in state.shape), np.float32
    )
    before = np.zeros(context, np.float32)
    result = np.empty(len(frames))
    for place, frame in enumerate(frames):
        feeds = {audio.name: np.concatenate([before, frame])[None], state.name: states}
        if rate is not None:
            feeds[rate.name] = np.array(rate_hz, rate.dtype)
        outputs = list(model(feeds).values())
        probability = [value for value in outputs if value.size == 1]
        following = [value for value in outputs if value.shape == states.shape]
        if len(probability) != 1 or len(following) != 1:
            shapes = ", ".join(str(value.shape) for value in outputs)
            raise Unsupported(f"a probability and a state are wanted, the outputs are {shapes}", where=model.where)
        result[place], states = float(probability[0].ravel()[0]), following[0]
        before = frame[len(frame) - context :]
    return result


def _ports(model: Model) -> tuple[Any, Any, Any]:
    """Audio, state and sampling rate among the inputs."""
    floats = {len(port.shape or ()): port for port in model.signature.inputs if "float" in port.dtype}
    rate = next((port for port in model.signature.inputs if "int" in port.dtype), None)
    if set(floats) != {2, 3} or len(model.signature.inputs) != 2 + (rate is not None):
        inputs = ", ".join(f"{port.name} {port.dtype} {port.shape}" for port in model.signature.inputs)
        raise Unsupported(
            f"audio (1, samples) and a state of three axes are wanted, it takes {inputs}", where=model.where
        )
    return floats[2], floats[3], rate


def _audio(data: DataFiles, path: str, rate_hz: int) -> NDArray[np.float32]:
    """Samples in -1 … 1, channels averaged."""
    import numpy as np

    content = data.read(path, limit=_MAX_WAV_BYTES)
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError, RuntimeError, OverflowError) as error:
        raise Damaged(f"not a WAV file: {error}", where=path) from error
    if width != 2:
        raise Unsupported(f"samples of {8 * width} bits; 16 are read", where=path)
    if rate != rate_hz:
        raise Unsupported(f"{rate} Hz, the evaluation wants {rate_hz}: nothing is resampled silently", where=path)
    usable = len(raw) // (2 * channels) * channels
    samples = np.frombuffer(raw, "<i2", usable).reshape(-1, channels)
    mono: NDArray[np.float32] = (samples.astype(np.float32) / 32768).mean(axis=1, dtype=np.float32)
    return mono


def _segments(data: DataFiles, wav: str) -> Iterator[tuple[float, float]]:
    """(start, end) in seconds of every SPEAKER line of the RTTM beside a recording."""
    folder, stem = posixpath.dirname(wav), posixpath.splitext(posixpath.basename(wav))[0]
    path = next((path for path in data.find(None, ".rttm") if path == posixpath.join(folder, f"{stem}.rttm")), None)
    if path is None:
        raise Damaged("the recording has no RTTM of the same name beside it", where=wav)
    for number, line in enumerate(data.text(path).splitlines(), 1):
        fields: Sequence[str] = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        if number > _MAX_SEGMENTS:
            raise Damaged(f"more than {_MAX_SEGMENTS} lines", where=path)
        try:
            start_s, length_s = float(fields[3]), float(fields[4])
        except (IndexError, ValueError):
            raise Damaged(f"line {number} has no start and duration", where=path) from None
        if not (math.isfinite(start_s) and math.isfinite(length_s) and start_s >= 0 and length_s >= 0):
            raise Damaged(f"line {number}: a time that is none", where=path)
        yield start_s, start_s + length_s
