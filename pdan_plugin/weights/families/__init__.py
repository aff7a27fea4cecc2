"""The kinds of network that bare weights are recognised as, by the names and shapes of their tensors."""

from pdan_plugin.weights.families.drn_family import DRN
from pdan_plugin.weights.families.family import Family, NotThisFamily, State
from pdan_plugin.weights.families.pdan_family import PDAN
from pdan_plugin.weights.families.residual_families import EDSR, RCAN, RRDBNET
from pdan_plugin.weights.families.srvgg_family import SRVGG
from pdan_plugin.weights.families.swinir_family import SWINIR

__all__ = ['FAMILIES', 'Family', 'NotThisFamily', 'State']

FAMILIES = (PDAN, DRN, RCAN, EDSR, SRVGG, RRDBNET, SWINIR)
