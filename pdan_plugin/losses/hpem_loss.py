"""The hard pixel example mining (HPEM) loss: L1, with additional weight on the pixels with the largest errors.

Source: PDAN's paper, equations 3 and 4; :class:`HPEMLoss` describes what the paper leaves open.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from pdan_plugin.losses.compared_pictures import compared

NORMALIZATIONS = ('all', 'hard')
REDUCTIONS = ('none', 'mean', 'sum')


def hard_pixel_mask(error: Tensor, hard_count: int) -> Tensor:
    """Marks exactly ``hard_count`` pixels of each image: those with the largest errors.

    Of equal errors at the threshold, the first ones in row-major order are marked. The threshold is selected in linear
    time, without sorting, so the loss costs little more than L1.

    Args:
        error: one error per pixel, (n, h, w), not negative.
        hard_count: pixels to mark in each image, 0 to h * w.

    Returns:
        Boolean mask (n, h, w).

    >>> hard_pixel_mask(torch.tensor([[[0.1, 0.7], [0.5, 0.2]]]), 2).tolist()
    [[[False, True], [True, False]]]
    """
    if hard_count == 0:
        return torch.zeros_like(error, dtype=torch.bool)
    flat = error.detach().flatten(1)
    threshold = _kth_largest(flat, hard_count)
    mask = flat > threshold
    ties = flat == threshold
    ties_wanted = hard_count - mask.sum(dim=1, keepdim=True)
    # Usually the only tie is the threshold pixel. On a GPU, ranking the ties costs less than checking for them.
    if flat.is_cuda or bool((ties.sum(dim=1, keepdim=True) > ties_wanted).any()):
        ties &= ties.cumsum(dim=1) <= ties_wanted
    return (mask | ties).view_as(error)


def _kth_largest(rows: Tensor, k: int) -> Tensor:
    """The k-th largest value of each row of (n, m), as (n, 1)."""
    ascending_position = rows.shape[1] - k
    if rows.device.type == 'cpu' and rows.dtype in (torch.float32, torch.float64):
        # NumPy's vectorised selection; torch.kthvalue takes four times as long on a CPU.
        selected = np.partition(rows.numpy(), ascending_position, axis=1)[:, ascending_position]
        return torch.from_numpy(np.ascontiguousarray(selected)).unsqueeze(1)  # pyright: ignore[reportUnknownMemberType]
    return rows.kthvalue(ascending_position + 1, dim=1, keepdim=True).values


class _WeightedL1(torch.autograd.Function):
    """sum(weight * |pred - target|) * scale; computes the gradient in the forward pass: one pass instead of five."""

    @staticmethod
    def forward(ctx: FunctionCtx, pred: Tensor, target: Tensor, hard_count: int, extra: float, scale: float) -> Tensor:
        difference = pred - target
        magnitude = difference.abs()
        pixel_weight = hard_pixel_mask(magnitude.sum(dim=1), hard_count).to(magnitude.dtype).mul_(extra).add_(1.0)
        pixel_weight = pixel_weight.mul_(scale).unsqueeze(1)
        gradient = difference.sign_().mul_(pixel_weight)
        ctx.save_for_backward(gradient)
        return magnitude.mul_(pixel_weight).sum()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        gradient = gradient * gradients[0]
        return gradient, -gradient if ctx.needs_input_grad[1] else None, None, None, None


@LOSS_REGISTRY.register()
class HPEMLoss(nn.Module):
    r"""L1 plus ``hard_weight`` times the L1 of the hard pixels.

    .. math::
        L = \operatorname{mean}\left(|s - s'|\right) + w \, L_{hard}, \qquad
        L_{hard} = \frac{1}{N} \sum_i M_i \, |s_i - s'_i|_1

    The error of a pixel is the sum of the absolute errors of its channels. The mask M marks the k largest errors of
    each image, k = round(hard_ratio * h * w) with Python's round, and has no gradient.

    ``normalize='all'`` (Eq. 3 as printed): N counts every element, so both terms are means over n*c*h*w. With
    ``'hard'`` N counts the hard elements alone (n*c*k), as in deep flow-guided inpainting (Xu et al. 2019), where the
    idea comes from; the hard term is then h*w/k times larger. The paper does not say how pixels are ranked; this
    project ranks them per image, by the sum over channels.

    Args:
        loss_weight: factor on the whole loss.
        hard_ratio: share p of hard pixels, in [0, 1]; 0.5 in the paper.
        hard_weight: w; 2 in the paper.
        normalize: 'all' or 'hard'.
        reduction: 'mean'; 'sum' is the mean times the number of elements; 'none' is a map of the input's shape; its
            mean is the loss.

    Shape:
        pred, target (n, c, h, w), or clips (n, t, c, h, w) of which each frame is an image, any value range -> a scalar
        in float32 (float64 for float64 input), or the map.

    Raises:
        ValueError: an argument is out of its range, shapes differ, or pictures are empty or integer.

    >>> pred, target = torch.tensor([[[[0.0, 3.0]]]]), torch.zeros(1, 1, 1, 2)
    >>> HPEMLoss()(pred, target)  # mean(0, 3) + 2 * mean(0, 3)
    tensor(4.5000)
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        hard_ratio: float = 0.5,
        hard_weight: float = 2.0,
        normalize: Literal['all', 'hard'] = 'all',
        reduction: Literal['none', 'mean', 'sum'] = 'mean',
    ) -> None:
        super().__init__()
        if not 0 <= hard_ratio <= 1:
            raise ValueError(f'hard_ratio: expected a share between 0 and 1, got {hard_ratio}.')
        if hard_weight < 0:
            raise ValueError(f'hard_weight: expected 0 or more, got {hard_weight}.')
        if normalize not in NORMALIZATIONS:
            raise ValueError(f'normalize: expected one of {", ".join(NORMALIZATIONS)}, got {normalize!r}.')
        if reduction not in REDUCTIONS:
            raise ValueError(f'reduction: expected one of {", ".join(REDUCTIONS)}, got {reduction!r}.')
        self.loss_weight = loss_weight
        self.hard_ratio = hard_ratio
        self.hard_weight = hard_weight
        self.normalize = normalize
        self.reduction = reduction

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        pred, target = compared(self, pred, target)
        shape = pred.shape
        pred, target = pred.flatten(0, -4), target.flatten(0, -4)  # the frames of clips are images of their own
        pixels = pred.shape[2] * pred.shape[3]
        hard_count = round(self.hard_ratio * pixels)
        extra = self.hard_weight
        if self.normalize == 'hard' and hard_count:
            extra *= pixels / hard_count

        if self.reduction == 'none':
            magnitude = (pred - target).abs()
            mask = hard_pixel_mask(magnitude.sum(dim=1), hard_count).unsqueeze(1)
            return (self.loss_weight * magnitude * (1 + extra * mask)).view(shape)
        scale = self.loss_weight / (pred.numel() if self.reduction == 'mean' else 1)
        return _WeightedL1.apply(pred, target, hard_count, extra, scale)
