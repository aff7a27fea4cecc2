"""PDAN: a pixel-guided dual-branch attention network for joint deblurring and super-resolution.

Source: "Pixel-Guided Dual-Branch Attention Network for Joint Image Deblurring and Super-Resolution", CVPR workshops
2021 (NTIRE 2021). The paper has no layer table; ``docs/reproduction.md`` lists what it states and what this
project chose. Classes from small to large: attention, block, group, deblurring branch, network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from pdan_plugin.archs.fast_layers import (
    Float32Conv2d,
    convolved_and_shuffled,
    gated_residual,
    in_bands,
    projection,
    spatial_mean,
)
from pdan_plugin.archs.fused_block import BlockLayers, fused_block
from pdan_plugin.archs.fused_choice import is_fused
from pdan_plugin.archs.linear_tail import as_one_convolution, pays_as_one_convolution
from pdan_plugin.archs.rcan_layers import Upsample

ATTENTIONS = ('rsca', 'ca')


class ChannelGate(nn.Module):
    """One gate per channel, from the spatial mean: sigmoid(W2 ReLU(W1 mean(u))), (b, c, 1, 1), in (0, 1)."""

    def __init__(self, num_feat: int, squeeze_factor: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(num_feat, num_feat // squeeze_factor, 1)
        self.excite = nn.Conv2d(num_feat // squeeze_factor, num_feat, 1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(spatial_mean(features)))))


class SpatialGate(nn.Module):
    """One gate per pixel, from a weighted sum of the channels: sigmoid(w u), (b, 1, h, w), in (0, 1)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(num_feat, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(projection(self.project, features))


class AttentionBlock(nn.Module):
    """Residual block with a gated branch: x + u * gate(u), u = conv(ReLU(conv(x))).

    With ``attention='rsca'`` (residual spatial and channel attention) the gate is the sum of the channel gate and the
    spatial gate, both computed from u (the concurrent form of scSE, Roy et al. 2018). With ``'ca'`` it is only the
    channel gate, as in RCAN's block.

    On CUDA the block takes a fused form, under the rules of :mod:`~pdan_plugin.archs.fused_choice`.
    """

    def __init__(self, num_feat: int, squeeze_factor: int, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.channel_gate = ChannelGate(num_feat, squeeze_factor)
        self.spatial_gate = SpatialGate(num_feat) if attention == 'rsca' else None

    def forward(self, x: Tensor) -> Tensor:
        layers = self._own_layers()
        if layers is not None and is_fused(x, layers, (self.channel_gate, self.spatial_gate)):
            return fused_block(x, layers)
        branch = self.conv2(torch.relu_(self.conv1(x)))
        if self.spatial_gate is None:
            return x + branch * self.channel_gate(branch)
        return gated_residual(x, branch, self.channel_gate(branch), self.spatial_gate(branch))

    def _own_layers(self) -> BlockLayers | None:
        """The convolutions; None if one of the gates is now a module of another class."""
        channel, spatial = self.channel_gate, self.spatial_gate
        if type(channel) is not ChannelGate or (spatial is not None and type(spatial) is not SpatialGate):
            return None
        project = None if spatial is None else spatial.project
        return BlockLayers(self.conv1, self.conv2, channel.squeeze, channel.excite, project)


class ResidualGroup(nn.Module):
    """Attention blocks and one convolution, with a skip connection around them."""

    def __init__(self, num_feat: int, num_block: int, squeeze_factor: int, attention: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(AttentionBlock(num_feat, squeeze_factor, attention) for _ in range(num_block)))
        self.conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.blocks(x))


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))): the plain block of the deblurring branch."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class DeblurBranch(nn.Module):
    """Residual encoder-decoder that turns the trunk's features into the residual of a sharp LR image.

    Two downsamplings (residual blocks, then a strided convolution with LeakyReLU), two deconvolutions, two residual
    blocks. The encoder's features are added to the decoder's of the same size. Any size works: a deconvolution doubles
    the size, so for an odd size its result has one row or column too many, which is cropped.

    Shape:
        features (b, num_feat, h, w) -> (b, num_feat, h, w); ``conv_last`` turns them into the residual image
    """

    NEGATIVE_SLOPE = 0.2

    def __init__(self, num_feat: int, num_out_ch: int, blocks_per_level: int = 2) -> None:
        super().__init__()

        def residual_blocks() -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(num_feat) for _ in range(blocks_per_level)))

        self.encoder1 = residual_blocks()
        self.down1 = nn.Conv2d(num_feat, num_feat, 3, stride=2, padding=1)
        self.encoder2 = residual_blocks()
        self.down2 = nn.Conv2d(num_feat, num_feat, 3, stride=2, padding=1)
        self.up2 = nn.ConvTranspose2d(num_feat, num_feat, 4, stride=2, padding=1)
        self.up1 = nn.ConvTranspose2d(num_feat, num_feat, 4, stride=2, padding=1)
        self.decoder = residual_blocks()
        self.conv_last = Float32Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.activation = nn.LeakyReLU(self.NEGATIVE_SLOPE)

    def forward(self, features: Tensor) -> Tensor:
        full = self.encoder1(features)
        half = self.encoder2(self.activation(self.down1(full)))
        quarter = self.activation(self.down2(half))
        half = half + self._up_to_size_of(half, self.up2(quarter))
        full = full + self._up_to_size_of(full, self.up1(half))
        return self.decoder(full)

    def _up_to_size_of(self, skip: Tensor, upsampled: Tensor) -> Tensor:
        return self.activation(upsampled[..., : skip.shape[-2], : skip.shape[-1]])


class PDAN(nn.Module):
    """The dual-branch network: shared features, a reconstruction tail (HR), and a deblurring branch for training (LR).

    The trunk is RCAN's (residual in residual) with RSCA blocks. A 1x1 convolution fuses the outputs of ``fuse_levels``
    evenly spaced groups; the trunk's last convolution and the long skip follow. The default has 62,389,387 parameters
    without the branch and takes 3.6703e12 multiply-accumulates for a 320x180 input.

    Under autocast the last convolutions and the mean run in float32: a bfloat16 output cannot hold 256 grey levels.

    Args:
        num_feat: channels of every feature map.
        num_group: residual groups; the last one is always fused.
        num_block: attention blocks in a group.
        squeeze_factor: reduction inside the channel gate; ``num_feat`` must be a multiple of this.
        upscale: a power of two, or 3 (the toolbox's pixel-shuffle tail).
        img_range: the network computes on (x - rgb_mean) * img_range.
        rgb_mean: the mean of each channel, in [0, 1]; the default is DIV2K's, as usual in the field.
        attention: 'rsca' (the paper's) or 'ca' (RCAN's).
        fuse_levels: number of groups to fuse; 0 for none.
        deblur_branch: False for inference; weights with the branch load too, and the branch's weights are ignored.
        checkpointing: recompute each group in the backward pass: same results, less memory, more time.

    ``attention='ca', fuse_levels=0, deblur_branch=False`` is exactly RCAN, and the toolbox's RCAN weights load into it
    (see :func:`from_rcan_names`).

    Raises:
        ValueError: an argument is out of its range; the message names it.

    >>> network = PDAN(num_feat=16, num_group=2, num_block=1, fuse_levels=2)
    >>> hr, lr = network(torch.rand(1, 3, 45, 80), return_lr=True)
    >>> tuple(hr.shape), tuple(lr.shape)
    ((1, 3, 180, 320), (1, 3, 45, 80))
    """

    def __init__(
        self,
        *,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 128,
        num_group: int = 10,
        num_block: int = 20,
        squeeze_factor: int = 16,
        upscale: int = 4,
        img_range: float = 255.0,
        rgb_mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040),
        attention: Literal['rsca', 'ca'] = 'rsca',
        fuse_levels: int = 5,
        deblur_branch: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f'attention: expected one of {", ".join(ATTENTIONS)}, got {attention!r}.')
        if upscale != 3 and (upscale < 2 or upscale & (upscale - 1)):
            raise ValueError(f'upscale: expected 2, 4, 8, another power of two, or 3, got {upscale}.')
        if min(num_group, num_block, squeeze_factor) < 1 or img_range <= 0:
            raise ValueError(
                'num_group, num_block, squeeze_factor and img_range must be positive, got '
                f'{num_group}, {num_block}, {squeeze_factor}, {img_range}.'
            )
        if not 0 <= fuse_levels <= num_group:
            raise ValueError(f'fuse_levels: expected 0 to num_group ({num_group}), got {fuse_levels}.')
        if num_feat % squeeze_factor:
            raise ValueError(f'num_feat: expected a multiple of squeeze_factor ({squeeze_factor}), got {num_feat}.')
        if not num_in_ch == num_out_ch == len(rgb_mean):
            raise ValueError(
                'num_in_ch, num_out_ch and the length of rgb_mean must be the same number, got '
                f'{num_in_ch}, {num_out_ch}, {len(rgb_mean)}.'
            )

        self.upscale = upscale
        self.img_range = img_range
        self.checkpointing = checkpointing
        self.mean: Tensor
        self.register_buffer('mean', torch.tensor(rgb_mean).view(1, -1, 1, 1), persistent=False)

        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.ModuleList(
            ResidualGroup(num_feat, num_block, squeeze_factor, attention) for _ in range(num_group)
        )
        # Evenly spaced, always with the last group (2, 4, 6, 8, 10 by default, counted from 1).
        self.fused_groups = [num_group * (level + 1) // fuse_levels - 1 for level in range(fuse_levels)]
        self.fuse = nn.Conv2d(num_feat * fuse_levels, num_feat, 1) if fuse_levels else None
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsample = Upsample(upscale, num_feat)
        self.shuffle_factor = 3 if upscale == 3 else 2
        self.conv_last = Float32Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.deblur_branch = DeblurBranch(num_feat, num_out_ch) if deblur_branch else None

    @overload
    def forward(self, x: Tensor, return_lr: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, x: Tensor, return_lr: Literal[True]) -> tuple[Tensor, Tensor]: ...

    def forward(self, x: Tensor, return_lr: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Restores a batch.

        Args:
            x: blurry LR images (b, c, h, w), RGB in [0, 1], any size.
            return_lr: also run the deblurring branch.

        Returns:
            HR (b, c, upscale * h, upscale * w), about [0, 1], not clipped; with ``return_lr`` the pair (HR, sharp LR
            of x's size).

        Raises:
            ValueError: the number of channels is wrong, or ``return_lr`` without the deblurring branch.
        """
        if x.dim() != 4 or x.shape[1] != self.mean.shape[1]:
            raise ValueError(f'PDAN takes (b, {self.mean.shape[1]}, h, w), got {tuple(x.shape)}.')
        features = self.extract_features((x - self.mean) * self.img_range)
        if pays_as_one_convolution(features):
            convolutions = [layer for layer in self.upsample if isinstance(layer, nn.Conv2d)]
            hr = as_one_convolution(features, convolutions, self.shuffle_factor, self.conv_last, self._tail)
            hr = hr.div_(self.img_range).add_(self.mean)
        else:
            # each convolution of the tail reaches one row at its own size: together less than two rows of the features
            hr = in_bands(self._tail, features, self.upscale, reach=2) / self.img_range + self.mean
        if not return_lr:
            return hr
        if self.deblur_branch is None:
            raise ValueError(
                'return_lr=True needs the deblurring branch, and this PDAN was built with deblur_branch=False.'
            )
        return hr, self.deblur_branch.conv_last(self.deblur_branch(features)) / self.img_range + x

    def extract_features(self, normalised: Tensor) -> Tensor:
        """The shared features (b, num_feat, h, w) of a mean-free, range-scaled input (b, c, h, w)."""
        shallow = self.conv_first(normalised)
        features = shallow
        fused: list[Tensor] = []
        for index, group in enumerate(self.body):
            if self.checkpointing and self.training and torch.is_grad_enabled():
                features = checkpoint(group, features, use_reentrant=False)
            else:
                features = group(features)
            if index in self.fused_groups:
                fused.append(features)
        if self.fuse is not None:
            features = self.fuse(torch.cat(fused, dim=1))
        return shallow + self.conv_after_body(features)

    def _tail(self, features: Tensor) -> Tensor:
        for layer in self.upsample:
            if isinstance(layer, nn.Conv2d):  # includes the pixel shuffle that follows each convolution
                features = convolved_and_shuffled(layer, features, self.shuffle_factor)
        return self.conv_last(features)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Like torch's method, but also accepts the weights of RCAN, and of a PDAN with the branch.

        A network without the branch ignores the branch's weights; all other names are checked as usual.
        """
        state_dict = self.own_names(state_dict)
        if self.deblur_branch is None:
            state_dict = {name: value for name, value in state_dict.items() if not name.startswith('deblur_branch.')}
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    @staticmethod
    def own_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights under this network's names; see :func:`from_rcan_names`."""
        return from_rcan_names(state_dict)


# From the names of the toolbox's RCAN to PDAN's; conv_first, conv_after_body, upsample, conv_last are the same in both.
RCAN_KEY_MAP: tuple[tuple[str, str], ...] = (
    (r'^body\.(\d+)\.residual_group\.(\d+)\.rcab\.0\.', r'body.\1.blocks.\2.conv1.'),
    (r'^body\.(\d+)\.residual_group\.(\d+)\.rcab\.2\.', r'body.\1.blocks.\2.conv2.'),
    (r'^body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1\.', r'body.\1.blocks.\2.channel_gate.squeeze.'),
    (r'^body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3\.', r'body.\1.blocks.\2.channel_gate.excite.'),
)


def from_rcan_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of the toolbox's RCAN to PDAN's names (:data:`RCAN_KEY_MAP`); other names stay.

    >>> list(from_rcan_names({'body.0.residual_group.1.rcab.0.weight': torch.zeros(1)}))
    ['body.0.blocks.1.conv1.weight']
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        for pattern, replacement in RCAN_KEY_MAP:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
