"""Finds and builds the network of an option section. This package's own networks need no toolbox."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from pdan_plugin.archs import NETWORKS
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.constructors import find_registered
from pdan_plugin.option_schema.keywords import leave_unset_out_for, with_whole_numbers
from pdan_plugin.processes.command_start import need_toolbox


def own_network(name: Any) -> type[nn.Module] | None:
    """The class of one of this package's networks, by its registered name; None for another name."""
    return NETWORKS.get(name) if isinstance(name, str) else None


def find_network(name: Any) -> Any | None:
    """The class or function of a network by its registered name, or None. Networks of others need the toolbox."""
    own = own_network(name)
    if own is not None:
        return own
    need_toolbox()
    from basicsr.utils.registry import ARCH_REGISTRY

    return find_registered(ARCH_REGISTRY, name)


def build_network(values: Mapping[str, Any], key: str) -> nn.Module:
    """The network of an option section ``{type: NAME, ...}``, on the CPU. Null keywords count as not given.

    Raises:
        RequestError: The constructor rejects its arguments.
    """
    target: Any = find_network(values['type'])
    keywords = copy.deepcopy(dict(values))
    del keywords['type']
    leave_unset_out_for(target, keywords)
    try:
        return target(**with_whole_numbers(target, keywords))
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f'{key}: {values["type"]} cannot be built: {type(error).__name__}: {error}') from error
