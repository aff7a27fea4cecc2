"""Networks, each registered under its class name in the toolbox's arch registry."""

from pdan_plugin.archs.bicubic_arch import Bicubic
from pdan_plugin.archs.drn_arch import DRN
from pdan_plugin.archs.pdan_arch import PDAN

__all__ = ['DRN', 'PDAN', 'Bicubic']
