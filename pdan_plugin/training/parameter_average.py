"""The running average of a network's parameters (EMA), moved in few calls by lists that are made once."""

from __future__ import annotations

from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn


class ParameterAverage:
    """Moves the parameters of one network towards those of another, and copies the buffers.

    Finding the parameters by their names takes milliseconds for a large network, in which a GPU may wait. Here the
    lists are made once, and again only after a parameter, a buffer or a module of either network was replaced, such as
    by ``load_state_dict(assign=True)``.

    On a CPU an average is multiplied and then added to, as in the toolbox: a resumed run must compute the bits of the
    version that began it. Other devices interpolate in one kernel.

    Args:
        trained: The network that is trained, not wrapped (DDP).
        average: A network with the same names of parameters and buffers; the trained one may have more.

    Raises:
        KeyError: The trained network lacks a parameter or buffer of the average.
    """

    def __init__(self, trained: nn.Module, average: nn.Module) -> None:
        self.trained, self.average = trained, average
        self._list()

    def move(self, decay: float, unless: Tensor | None = None) -> None:
        """Moves the averages by 1 - ``decay`` of their distance.

        Args:
            unless: A flag on the device, a float32 scalar, which the host does not read. If it is 1, nothing changes,
                not by a bit; if it is 0, the averages move.
        """
        held = self._held()
        if len(held) != len(self._known) or not all(map(is_, held, self._known)):
            self._list()
        with torch.no_grad():
            if unless is None:
                self._move(decay)
            else:
                self._move_unless(unless, decay)

    def _move(self, decay: float) -> None:
        if self._averages and self._averages[0].device.type == 'cpu':
            torch._foreach_mul_(self._averages, decay)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(self._averages, self._parameters, alpha=1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        elif self._averages:
            torch._foreach_lerp_(self._averages, self._parameters, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        if self._buffers:
            torch._foreach_copy_(self._average_buffers, self._buffers)  # pyright: ignore[reportPrivateImportUsage]

    def _move_unless(self, flag: Tensor, decay: float) -> None:
        if self._alike is None:
            self._alike, self._unlike = _by_layout(self._averages, self._parameters)
        # A step of gradient descent at the rate 1 - decay, whose gradient is average - parameter (maximize turns the
        # sign of the parameter, weight_decay adds the average). torch's fused step moves all averages in one kernel,
        # which ends before it writes if the flag is 1.
        for averages, parameters in self._alike:
            torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
                averages, parameters, [], weight_decay=1.0, momentum=0.0, lr=1 - decay, dampening=0.0, nesterov=False,
                maximize=True, is_first_step=False, grad_scale=None, found_inf=flag,
            )  # fmt: skip
        stays = flag.to(torch.bool)
        for average, parameter in self._unlike:
            average.copy_(torch.where(stays, average, torch.lerp(average, parameter, 1 - decay)))
        for average, buffer in zip(self._average_buffers, self._buffers, strict=True):
            average.copy_(torch.where(stays, average, buffer))

    # ---- the lists ----

    def _list(self) -> None:
        parameters, buffers = dict(self.trained.named_parameters()), dict(self.trained.named_buffers())
        averages, average_buffers = dict(self.average.named_parameters()), dict(self.average.named_buffers())
        self._averages: list[Tensor] = list(averages.values())
        self._parameters: list[Tensor] = [parameters[name] for name in averages]
        self._average_buffers = list(average_buffers.values())
        self._buffers = [buffers[name] for name in average_buffers]
        self._alike: list[tuple[list[Tensor], list[Tensor]]] | None = None
        self._unlike: list[tuple[Tensor, Tensor]] = []
        # all that named_parameters and named_buffers look through; these dictionaries stay, their values may change
        self._dictionaries: list[dict[str, Any]] = [
            dictionary
            for module in chain(self.trained.modules(), self.average.modules())
            for dictionary in (module._parameters, module._buffers, module._modules)
        ]
        self._known = self._held()

    def _held(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._dictionaries)))


def average_of(model: Any) -> ParameterAverage:
    """The average ``net_g_ema`` of a toolbox model's ``net_g``. It is kept with the model for the next call."""
    trained = model.get_bare_model(model.net_g)
    kept: ParameterAverage | None = getattr(model, '_parameter_average', None)
    if kept is None or kept.trained is not trained or kept.average is not model.net_g_ema:
        kept = model._parameter_average = ParameterAverage(trained, model.net_g_ema)
    return kept


def _by_layout(
    averages: list[Tensor], parameters: list[Tensor]
) -> tuple[list[tuple[list[Tensor], list[Tensor]]], list[tuple[Tensor, Tensor]]]:
    """Pairs that a fused step takes together, as lists of one number format, and the pairs that it cannot take: it
    reads the two of a pair in the order of memory, so they must lie there alike."""
    alike: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    unlike: list[tuple[Tensor, Tensor]] = []
    for average, parameter in zip(averages, parameters, strict=True):
        is_real = average.is_floating_point() and average.dtype == parameter.dtype
        if is_real and average.shape == parameter.shape and average.stride() == parameter.stride():
            lists = alike.setdefault(average.dtype, ([], []))
            lists[0].append(average)
            lists[1].append(parameter)
        else:
            unlike.append((average, parameter))
    return list(alike.values()), unlike
