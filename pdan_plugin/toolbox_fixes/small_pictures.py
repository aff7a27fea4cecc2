"""Validation and tests of the toolbox's own models: pictures that are smaller than a network accepts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from basicsr.models.sr_model import SRModel
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.accepted_sizes import AcceptedSizes, accepted_sizes, least_size
from pdan_plugin.machine.working_memory import is_surely_out_of_memory
from pdan_plugin.restoration.tiling import reflected
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace

# each network is measured once, because every picture of a folder may be too small
_measured = WeakKeyDictionary[nn.Module, 'tuple[AcceptedSizes, int] | None']()


@fix(
    where='models/sr_model.py:118',
    upstream='none',
    symptom='validation of a picture smaller than the network accepts, or of no multiple of its window: RuntimeError',
    behaves=lambda: _extends(),
)
def pictures_are_extended_to_what_the_network_accepts() -> None:
    """A picture on which the network fails is extended by reflection, as for `RestorationModel`; the result is cropped.

    Models with a `test` of their own, such as SwinIRModel, are left as they are.
    """
    replace(SRModel, 'test', _extending(SRModel.test))


def _extending(published: Callable[[SRModel], None]) -> Callable[[SRModel], None]:
    @functools.wraps(published)
    def test(self: Any) -> None:
        is_training = self.net_g.training
        try:
            published(self)
        except Exception as error:  # a network of another project may raise any
            self.net_g.train(is_training)
            extended = None if is_surely_out_of_memory(error) else _extended(self)
            if extended is None:
                raise
            given, (self.lq, scale) = self.lq, extended
            published(self)
            height, width = given.shape[-2:]
            self.output = self.output[..., : height * scale, : width * scale]
            self.lq = given

    return test


def _extended(model: Any) -> tuple[Tensor, int] | None:
    """The picture on which the network has failed, with sides that it accepts, and the scale; None if it does."""
    lq: Tensor = model.lq
    network: nn.Module = model.get_bare_model(getattr(model, 'net_g_ema', model.net_g))
    if network not in _measured:
        _measured[network] = _accepted(network, lq)
    accepted = _measured[network]
    if accepted is None:
        return None
    sizes, least = accepted
    sides = [math.ceil(max(side, least) / sizes.multiple) * sizes.multiple for side in lq.shape[-2:]]
    if sides == list(lq.shape[-2:]):
        return None
    rows, columns = (
        torch.from_numpy(reflected(0, due, side)).to(lq.device) for due, side in zip(sides, lq.shape[-2:], strict=True)
    )
    return lq.index_select(-2, rows).index_select(-1, columns), sizes.scale


def _accepted(network: nn.Module, lq: Tensor) -> tuple[AcceptedSizes, int] | None:
    """The sizes that a network accepts, and its least side; None if it accepts none."""
    is_training = network.training

    def restore(batch: Tensor) -> Tensor:
        return network(batch.to(lq))

    network.eval()
    try:
        with torch.no_grad():
            sizes = accepted_sizes(restore, network, [lq.shape[1]])
            return sizes, least_size(restore, sizes.channels, sizes.multiple)
    except RequestError:
        return None
    finally:
        network.train(is_training)


@probe
def _extends() -> bool:
    model: Any = nn.Module()
    model.lq, model.net_g = torch.zeros(1, 1, 2, 2), nn.Sequential(nn.ReflectionPad2d(2), nn.AvgPool2d(5, 1))
    model.get_bare_model = lambda network: network
    SRModel.test(model)
    return True
