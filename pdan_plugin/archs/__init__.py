"""Networks that need only torch. With the toolbox, each is registered under its class name."""

from pdan_plugin.archs.bicubic_arch import Bicubic
from pdan_plugin.archs.drn_arch import DRN
from pdan_plugin.archs.pdan_arch import PDAN

__all__ = ['DRN', 'PDAN', 'Bicubic', 'register']


def register() -> None:
    """Registers every network of this package in the toolbox's arch registry; a second call does nothing.

    Raises:
        AssertionError: One of the names belongs to another class.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    registered = dict(iter(ARCH_REGISTRY))
    for network in (PDAN, DRN, Bicubic):
        if registered.get(network.__name__) is not network:
            ARCH_REGISTRY.register(network)
