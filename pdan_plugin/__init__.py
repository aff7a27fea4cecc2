"""Importing the package is registering: the toolbox is mended, then every part is registered."""

__version__ = '0.1.0'

from pdan_plugin import toolbox_fixes
from pdan_plugin.processes.command_start import refusals_end_the_command

with refusals_end_the_command():
    toolbox_fixes.apply()

from pdan_plugin import archs, data, losses, metrics, models

__all__ = ['archs', 'data', 'losses', 'metrics', 'models', 'toolbox_fixes']
