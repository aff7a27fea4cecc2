"""PDAN for BasicSR: importing the package fixes the installed toolbox in memory and registers all parts in it.

There are two exceptions. If no toolbox is installed, the networks of `pdan_plugin.archs` work with torch alone. The
`basicsr` command prepares the toolbox itself, before it runs a subcommand.
"""

__version__ = '0.1.0'

from typing import TYPE_CHECKING, Any

from pdan_plugin.processes.command_start import prepare_later, prepares_the_toolbox_itself, toolbox_can_be_found

if TYPE_CHECKING:
    from pdan_plugin.restoration.python_interface import Restorer, load_network, networks

__all__ = ['Restorer', 'load_network', 'networks', 'prepare_toolbox']


def __getattr__(name: str) -> Any:
    """Imports the Python interface when it is used."""
    if name in ('Restorer', 'load_network', 'networks'):
        from pdan_plugin.restoration import python_interface

        return getattr(python_interface, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def prepare_toolbox() -> None:
    """Fixes the installed toolbox in memory and registers this package's parts in it. A second call does nothing.

    Raises:
        RequestError: No toolbox is installed, or another folder of its name is found first.
    """
    from pdan_plugin import toolbox_fixes

    toolbox_fixes.apply()
    # these import the toolbox; losses, metrics, data sets and models register on import
    from pdan_plugin import archs, data, losses, metrics, models  # noqa: F401

    archs.register()


prepare_later(prepare_toolbox)
if toolbox_can_be_found() and not prepares_the_toolbox_itself():
    prepare_toolbox()
