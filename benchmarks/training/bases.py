"""Trainings as people write them in torch: pictures, sentences with labels for every token, and sounds."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it

Parts = dict[str, Any]
WORDS = "[pad] [cls] [sep] [unk] the a An cat Dog sat on mat ran over hill under Tree slept café by".split()
CLASSES = ("cat", "dog", "tree")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORED = -100


class ImageNet(nn.Module):
    """Convolutions with batch norm, a residual block and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.GELU()
        self.inner, self.norm2, self.act2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.stem(x)))
        x = x + self.act2(self.norm2(self.inner(x)))
        return self.head(x.mean((2, 3)))


class Encoder(nn.Module):
    """One layer of attention and one of a multilayer perceptron, pre-norm; logits for every token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 16)
        self.norm1, self.norm2, self.last = nn.LayerNorm(16), nn.LayerNorm(16), nn.LayerNorm(16)
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.act, self.down = nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        h = self.norm1(x)
        x = x + self.out(self.attended(self.query(h), self.key(h), self.value(h)))
        x = x + self.down(self.act(self.up(self.norm2(x))))
        return self.head(self.last(x))

    def attended(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (q @ k.transpose(-1, -2) / 4.0).softmax(-1) @ v


class SoundNet(nn.Module):
    """A perceptron on the energies of a sound; one probability's logit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 12), nn.Linear(12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)))


def picture(seed: int) -> bytes:
    """A PNG of 44 × 52: a slope of colour, some discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:44, :52]
    planes = [rows * rng.uniform(1, 4) + columns * rng.uniform(0, 2) for _ in range(3)]
    made = np.stack(planes, -1) % 256
    for _ in range(4):
        y, x, r = rng.integers(0, 44), rng.integers(0, 52), rng.integers(3, 12)
        made[(rows - y) ** 2 + (columns - x) ** 2 < r * r] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    Image.fromarray(made.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def decode(sample: Mapping[str, Any]) -> Parts:
    return {"x": np.asarray(Image.open(io.BytesIO(sample["x"])).convert("RGB")), "label": sample["label"]}


def resize(sample: Mapping[str, Any]) -> Parts:
    picture = Image.fromarray(sample["x"]).resize((28, 24), Image.Resampling.BILINEAR)
    return {**sample, "x": np.asarray(picture)}


def crop(sample: Mapping[str, Any], size: int = 20, move: int = 0) -> Parts:
    top, left = (24 - size) // 2 + move, (28 - size) // 2
    return {**sample, "x": sample["x"][top : top + size, left : left + size]}


def scale(sample: Mapping[str, Any]) -> Parts:
    return {**sample, "x": sample["x"].astype(np.float32) / 255}


def normalise(sample: Mapping[str, Any], mean: Any = MEAN, deviation: Any = DEVIATION) -> Parts:
    return {**sample, "x": (sample["x"] - np.float32(mean)) / np.float32(deviation)}


def layout(sample: Mapping[str, Any]) -> Parts:
    return {**sample, "x": sample["x"].transpose(2, 0, 1)}


def label(sample: Mapping[str, Any], classes: tuple[str, ...] = CLASSES) -> Parts:
    return {**sample, "label": classes.index(sample["label"])}


def image() -> Parts:
    """Pictures in three classes; Adam with decoupled decay, a cosine after a warm-up."""
    torch.manual_seed(1)
    model = ImageNet()
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((6, 3, 20, 20)).astype(np.float32), rng.integers(0, 3, 6)) for _ in range(3)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    return {
        "samples": [{"x": picture(seed), "label": CLASSES[seed % 3]} for seed in range(6)],
        "pipeline": {"decode": decode, "resize": resize, "crop": crop, "scale": scale, "normalise": normalise,
                     "layout": layout, "label": label},
        "model": model, "batches": batches, "optimiser": optimiser, "steps": 200,
        "loss": lambda outputs, batch: F.cross_entropy(outputs, batch["targets"]),
        "schedule": lambda step: warmed(step, 20, 200),
    }  # fmt: skip


def warmed(step: int, warm: int, total: int, *, top: float = 1e-3, low: float = 0.0, offset: int = 0) -> float:
    """A linear warm-up, then a cosine."""
    if step < warm:
        return top * (step + offset) / warm
    return low + (top - low) * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def clean(text: str) -> str:
    return " ".join(text.split())


def tokens(text: str) -> np.ndarray:
    return np.array([WORDS.index(word) if word in WORDS else 3 for word in text.split()])


def truncate(ids: np.ndarray, size: int = 8) -> np.ndarray:
    return ids[:size]


def special(ids: np.ndarray) -> np.ndarray:
    return np.array([1, *ids, 2])


def pad(ids: np.ndarray, size: int = 14, value: int = 0) -> np.ndarray:
    return np.pad(ids, (0, size - len(ids)), constant_values=value)


def text() -> Parts:
    """Labels for every token, padding ignored; SGD with momentum, a rate that falls in steps."""
    torch.manual_seed(2)
    model = Encoder()
    rng = np.random.default_rng(1)
    batches = []
    for _ in range(3):
        targets = rng.integers(0, 5, (4, 9))
        targets[:, 7:] = IGNORED
        targets[0, 4:] = IGNORED
        batches.append((rng.integers(0, len(WORDS), (4, 9)), targets))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    return {
        "samples": ["the cat sat on the mat", "An Dog ran over the hill by a Tree under the hill", "a  café by the mat",
                    "Dog slept"],
        "pipeline": {"clean": clean, "tokens": tokens, "truncate": truncate, "special": special, "pad": pad},
        "model": model, "batches": batches, "optimiser": optimiser, "steps": 120, "steps_per_epoch": 10,
        "loss": lambda outputs, batch: F.cross_entropy(outputs.flatten(0, 1), batch["targets"].flatten()),
        "schedule": torch.optim.lr_scheduler.StepLR(optimiser, 4, gamma=0.1),
    }  # fmt: skip


def sound_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(640) / 640
    return (np.sin(40 * t * rng.uniform(1, 9)) + 0.3 * np.sin(900 * t)).astype(np.float32)


def smooth(signal: np.ndarray) -> np.ndarray:
    return np.convolve(signal, np.ones(10, np.float32) / 10, "same").astype(np.float32)


def resample(signal: np.ndarray) -> np.ndarray:
    return signal.reshape(64, 10).mean(1)


def sound() -> Parts:
    """Yes or no; RMSprop with momentum, a rate that falls exponentially."""
    torch.manual_seed(3)
    model = SoundNet()
    rng = np.random.default_rng(2)
    batches = [(rng.standard_normal((8, 64)).astype(np.float32), (rng.random((8, 1)) > 0.5).astype(np.float32))
               for _ in range(3)]  # fmt: skip
    optimiser = torch.optim.RMSprop(model.parameters(), lr=0.01, alpha=0.9, momentum=0.9, eps=1e-6)
    return {
        "samples": [sound_of(seed) for seed in range(4)],
        "pipeline": {"smooth": smooth, "resample": resample},
        "model": model, "batches": batches, "optimiser": optimiser, "steps": 100,
        "loss": lambda outputs, batch: F.binary_cross_entropy_with_logits(outputs, batch["targets"]),
        "schedule": torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.97),
    }  # fmt: skip


BASES: dict[str, Callable[[], Parts]] = {"image": image, "text": text, "sound": sound}
