"""DRN under its authors' names and in their units, laid out anew from what their checkpoints hold.

It computes on [0, 255]; two 1x1 convolutions shift by the mean, and are trained like the rest.
"""

import torch
from torch import nn
from torch.nn import functional


def conv(channels, out_channels, size=3, *, stride=1, bias=True):
    return nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=bias)


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_du = nn.Sequential(
            conv(channels, channels // 16, 1), nn.ReLU(), conv(channels // 16, channels, 1), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.conv_du(x.mean((2, 3), keepdim=True))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels), Attention(channels))

    def forward(self, x):
        return x + self.body(x)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        first = nn.Sequential(conv(channels, channels, stride=2, bias=False), nn.LeakyReLU(0.2))
        self.dual_module = nn.Sequential(first, conv(channels, 2 * channels, bias=False))

    def forward(self, x):
        return self.dual_module(x)


class AuthorsDRN(nn.Module):
    """For 4x; the forward gives all results, smallest first."""

    def __init__(self, features, blocks):
        super().__init__()
        wide = 4 * features
        self.sub_mean, self.add_mean = conv(3, 3, 1), conv(3, 3, 1)
        for shift, sign in ((self.sub_mean, -1), (self.add_mean, 1)):
            shift.weight.data = torch.eye(3).view(3, 3, 1, 1)
            shift.bias = nn.Parameter(sign * 255 * torch.tensor([0.4488, 0.4371, 0.4040]))
        self.head = conv(3, features)
        self.down = nn.ModuleList([Down(features), Down(2 * features)])
        self.up_blocks = nn.ModuleList(
            nn.Sequential(
                *(Block(wide) for _ in range(blocks)),
                nn.Sequential(conv(wide, 4 * wide), nn.PixelShuffle(2)),
                conv(wide, narrowed, 1),
            )
            for narrowed in (2 * features, features)
        )
        self.tail = nn.ModuleList([conv(wide, 3), conv(wide, 3), conv(2 * features, 3)])

    def forward(self, x):
        full = self.head(self.sub_mean(functional.interpolate(x, scale_factor=4, mode='bicubic')))
        half = self.down[0](full)
        quarter = self.down[1](half)
        first = torch.cat((self.up_blocks[0](quarter), half), 1)
        second = torch.cat((self.up_blocks[1](first), full), 1)
        return [
            self.add_mean(tail(features))
            for tail, features in zip(self.tail, (quarter, first, second), strict=True)
        ]  # fmt: skip
