"""The state of a network without the name prefixes of wrappers and compilers."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

# torch.compile, FullyShardedDataParallel, activation checkpoints and Lightning Fabric put these before any part's name
_WRAPPERS = ('_orig_mod.', '_fsdp_wrapped_module.', '_checkpoint_wrapped_module.', '_forward_module.')
_PARALLEL = 'module.'


def bare_state_dict(net: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """The network's state on the CPU, with the names of the unwrapped, uncompiled network."""
    state = net.state_dict()
    bare = OrderedDict((bare_name(name), value.cpu()) for name, value in state.items())
    metadata = getattr(state, '_metadata', None)
    if metadata is not None:  # modules read their version from it when they load
        vars(bare)['_metadata'] = OrderedDict(
            (bare_name(f'{name}.').removesuffix('.'), value) for name, value in metadata.items()
        )
    return bare


def bare_name(name: str) -> str:
    """A parameter's name without the prefixes of wrappers, in any order and number.

    ``module.``, which data-parallel wrappers add, is removed only at the start: a network may have a part of that name.
    """
    name = unwrapped_name(name)
    while name.startswith(_PARALLEL):
        name = name.removeprefix(_PARALLEL)
    return name


def unwrapped_name(name: str) -> str:
    """A parameter's name without the prefixes that no part of a network has, anywhere in it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, '')
    return name
