"""Image quality: metrics in the toolbox's metric registry, and no-reference sharpness."""

from pdan_plugin.metrics.lpips_metric import calculate_lpips

__all__ = ['calculate_lpips']
