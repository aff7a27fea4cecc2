"""The negative PSNR as a loss: every image counts the same, whether its error is large or small."""

from __future__ import annotations

import math

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from pdan_plugin.losses.compared_pictures import compared

DECIBELS = 10 / math.log(10)


@LOSS_REGISTRY.register()
class LogMSELoss(nn.Module):
    r"""The mean over the images of -PSNR, in dB.

    .. math::
        L = w \cdot \frac{1}{n} \sum_i 10 \log_{10}(\operatorname{mse}_i + \epsilon)

    In L1 and MSE the crops with large errors dominate; a smooth or nearly perfect crop has almost no weight, though the
    mean PSNR of a test set counts it like any other. This loss counts decibels. It is meant for the last iterations of
    a training; L1 is the safer start from random weights. NAFNet and HINet are trained with a loss of this kind.

    Args:
        loss_weight: factor w on the loss, above 0.
        floor: epsilon, added to each image's mean squared error, above 0; an image gains nothing from errors far below
            it. 1e-5 is a PSNR of 50 dB for values in [0, 1].

    Shape:
        pred, target (n, c, h, w), or clips (n, t, c, h, w) of which each frame is an image, values in [0, 1] -> a
        scalar in float32 (float64 for float64 input). -30 means 30 dB.

    Raises:
        ValueError: an argument is out of its range, shapes differ, or pictures are empty or integer.

    >>> import torch
    >>> loss = LogMSELoss(floor=1e-12)(torch.full((1, 3, 2, 2), 0.1), torch.zeros(1, 3, 2, 2))  # mse 0.01 is 20 dB
    >>> round(loss.item(), 3)
    -20.0
    """

    def __init__(self, loss_weight: float = 1.0, floor: float = 1e-5) -> None:
        super().__init__()
        if not (math.isfinite(loss_weight) and loss_weight > 0):
            raise ValueError(f'loss_weight: expected a number above 0, got {loss_weight}.')
        if not (math.isfinite(floor) and floor > 0):
            raise ValueError(f'floor: expected a number above 0, got {floor}.')
        self.loss_weight = loss_weight
        self.floor = floor

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        pred, target = compared(self, pred, target)
        squared = (pred - target).square()
        mean_squared = squared.mean(dim=(-3, -2, -1))  # one for each image
        return self.loss_weight * DECIBELS * (mean_squared + self.floor).log().mean()
