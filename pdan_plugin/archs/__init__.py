"""Networks that need only torch. With the toolbox, each is registered under its class name."""

from pdan_plugin.archs.bicubic_arch import Bicubic
from pdan_plugin.archs.drn_arch import DRN
from pdan_plugin.archs.pdan_arch import PDAN

__all__ = ['DRN', 'NETWORKS', 'PDAN', 'Bicubic', 'register']

NETWORKS = {network.__name__: network for network in (PDAN, DRN, Bicubic)}
"""Registered name -> class."""


def register() -> None:
    """Registers every network of this package in the toolbox's arch registry; a second call does nothing.

    Raises:
        AssertionError: One of the names belongs to another class.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    registered = dict(iter(ARCH_REGISTRY))
    for name, network in NETWORKS.items():
        if registered.get(name) is not network:
            ARCH_REGISTRY.register(network)
