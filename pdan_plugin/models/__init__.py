"""Models (training and validation loops' bodies), each registered under its class name in the toolbox's model registry."""

from pdan_plugin.models.dual_supervision_model import DualSupervisionModel
from pdan_plugin.models.restoration_model import RestorationModel

__all__ = ['DualSupervisionModel', 'RestorationModel']
