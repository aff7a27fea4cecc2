"""The state of a network without the name prefixes of wrappers and compilers."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def bare_state_dict(net: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """The network's state on the CPU, with the names of the unwrapped, uncompiled network."""
    state = net.state_dict()
    bare = OrderedDict((_bare_name(name), value.cpu()) for name, value in state.items())
    metadata = getattr(state, '_metadata', None)
    if metadata is not None:  # modules read their version from it when they load
        vars(bare)['_metadata'] = OrderedDict(
            (_bare_name(f'{name}.').removesuffix('.'), value) for name, value in metadata.items()
        )
    return bare


def _bare_name(name: str) -> str:
    return name.replace('_orig_mod.', '').removeprefix('module.')
