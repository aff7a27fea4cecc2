"""PDAN for BasicSR: importing the package mends the installed toolbox and registers every part in it.

Two kinds of import leave the toolbox alone. Where no toolbox is installed, the networks of `pdan_plugin.archs` can
still be used, with torch alone. The `basicsr` command prepares the toolbox itself, once the work needs it.
"""

__version__ = '0.1.0'

from pdan_plugin.processes.command_start import prepares_the_toolbox_itself, toolbox_can_be_found

__all__ = ['prepare_toolbox']


def prepare_toolbox() -> None:
    """Mends the installed toolbox and registers this package's parts in it; a second call does nothing.

    Raises:
        RequestError: No toolbox is installed, or another folder is found under its name.
    """
    from pdan_plugin import toolbox_fixes

    toolbox_fixes.apply()
    # these import the toolbox; losses, metrics, data sets and models register as they are imported
    from pdan_plugin import archs, data, losses, metrics, models  # noqa: F401

    archs.register()


if toolbox_can_be_found() and not prepares_the_toolbox_itself():
    prepare_toolbox()
