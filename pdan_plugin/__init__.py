"""Importing the package is registering: the toolbox is mended, then every part is registered."""

__version__ = '0.1.0'

from pdan_plugin import toolbox_fixes

toolbox_fixes.apply()

from pdan_plugin import archs, data, losses, models  # noqa: E402

__all__ = ['archs', 'data', 'losses', 'models', 'toolbox_fixes']
