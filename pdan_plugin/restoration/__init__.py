"""Using a trained network: weights in, pictures in and out."""

from pdan_plugin.restoration.file_restoration import restore_path
from pdan_plugin.weights.trained_network import load_trained_network

__all__ = ['load_trained_network', 'restore_path']
