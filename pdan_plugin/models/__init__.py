"""Models: what the trainer does in an iteration and a validation, each registered under its class name."""

from pdan_plugin.models.dual_regression_model import DualRegressionModel
from pdan_plugin.models.dual_supervision_model import DualSupervisionModel
from pdan_plugin.models.restoration_model import RestorationModel

__all__ = ['DualRegressionModel', 'DualSupervisionModel', 'RestorationModel']
