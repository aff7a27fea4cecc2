"""Using a trained network: weights in, pictures in and out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdan_plugin.restoration.file_restoration import restore_path
    from pdan_plugin.weights.trained_network import load_trained_network

__all__ = ['load_trained_network', 'restore_path']


def __getattr__(name: str) -> Any:
    """Imports them when they are used: `pdan_plugin.spandrel_arch` uses other modules here without the toolbox."""
    if name == 'load_trained_network':
        from pdan_plugin.weights.trained_network import load_trained_network

        return load_trained_network
    if name == 'restore_path':
        from pdan_plugin.restoration.file_restoration import restore_path

        return restore_path
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
