"""R-Net of MTCNN as two packages have it: they flatten the last image in another order."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

FACES = {"x": torch.ones(3, 3, 24, 24)}


class RefineNet(nn.Module):
    """Zhang et al. 2016, figure 2.

    Args:
        order: of the image's axes when it is flattened.
    """

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pool = nn.functional.max_pool2d
        x = pool(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = pool(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(x)).permute(self.order).flatten(1)
        x = self.prelu4(self.dense4(x))
        return self.dense5_2(x), torch.softmax(self.dense5_1(x), dim=1)


def facenet(weights: Mapping[str, torch.Tensor]):
    """As facenet-pytorch flattens it: width, height, channels."""
    return _filled(RefineNet((0, 3, 2, 1)), weights)


def plain(weights: Mapping[str, torch.Tensor]):
    """As an implementation does that does not think of it: channels, height, width."""
    return _filled(RefineNet((0, 1, 2, 3)), weights)


def _filled(network: RefineNet, weights: Mapping[str, torch.Tensor]):
    named = {name.removeprefix("features."): value for name, value in weights.items()}
    known = network.state_dict()
    network.load_state_dict(
        {(name if name in known else name.replace("conv", "dense")): value for name, value in named.items()}
    )
    return network, FACES
