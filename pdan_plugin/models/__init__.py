"""Models define one training iteration and one validation. Each is registered under its class name."""

from pdan_plugin.models.dual_regression_model import DualRegressionModel
from pdan_plugin.models.dual_supervision_model import DualSupervisionModel
from pdan_plugin.models.restoration_model import RestorationModel

__all__ = ['DualRegressionModel', 'DualSupervisionModel', 'RestorationModel']
