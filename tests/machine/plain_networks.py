"""Networks whose sizes can be worked out by hand."""

from torch import nn


class Plain(nn.Module):
    """One convolution, a ReLU and a pixel shuffle."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.tail = nn.Sequential(nn.ReLU(), nn.PixelShuffle(2))

    def forward(self, x):
        return self.tail(self.conv(x))


class WantsNumbers(Plain):
    """Reads a value, which a tensor without numbers does not have."""

    def forward(self, x):
        return super().forward(x) * (1.0 if x.mean().item() < 2 else 2.0)
