"""A network that accepts any picture size: extended to the multiple and the least size it needs, the result cropped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.accepted_sizes import accepted_sizes, least_size


class PaddedNetwork(nn.Module):
    """Extends a picture by reflection at the right and the bottom, as `basicsr restore` does, and crops the result.

    Written with operations that an exporter records for any size.

    Args:
        network: maps (b, c, h, w) to (b, c, scale * h, scale * w), for h and w that are multiples of ``multiple`` and
            at least ``least``.
        least: a multiple of ``multiple``; None for ``multiple`` itself.
    """

    def __init__(self, network: nn.Module, multiple: int, scale: int, least: int | None = None) -> None:
        super().__init__()
        self.network, self.multiple, self.scale, self.least = network, multiple, scale, least or multiple

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        extended = x.index_select(-2, self._reflected(h, x)).index_select(-1, self._reflected(w, x))
        result = self.network(extended)
        rows, columns = (torch.arange(self.scale * side, device=x.device) for side in (h, w))
        return result.index_select(-2, rows).index_select(-1, columns)

    def _reflected(self, side: int, x: Tensor) -> Tensor:
        """The rows (or columns) of the picture that the extended picture has."""
        steps = torch.sym_max(self.least // self.multiple, (side + self.multiple - 1) // self.multiple)
        length = self.multiple * steps
        period = (2 * torch.arange(side, device=x.device).amax(dim=0)).clamp(min=1)
        positions = torch.remainder(torch.arange(length, device=x.device), period)
        return torch.minimum(positions, period - positions)


def padded_if_needed(network: nn.Module, channels: int) -> nn.Module:
    """The network, or a :class:`PaddedNetwork` of it with the smallest multiple of sizes that it accepts, and the
    smallest side.

    Returns:
        The network itself also if it accepts none of the sizes tried.
    """
    try:
        with torch.no_grad():
            sizes = accepted_sizes(network, network, [channels])
            least = least_size(network, channels, sizes.multiple)
    except (RequestError, MemoryError):  # the caller's run reports the error
        return network
    return network if least == 1 else PaddedNetwork(network, sizes.multiple, sizes.scale, least)
