"""Draws the response of a camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pdan_plugin.synthesis.camera_response import LEVELS, Response, response


def draw_response(camera: Response, file: str | Path) -> None:
    """Draws the light of each level (1 at level 128) beside sRGB's, on a linear and on a logarithmic scale.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    levels = np.arange(LEVELS)
    figure = Figure(figsize=(9, 4), layout='constrained')
    for axes, scale in zip(figure.subplots(1, 2), ('linear', 'log'), strict=True):
        standard = response('srgb').table[:, 0]
        axes.plot(levels, standard / standard[LEVELS // 2], color='#999999', linestyle='--', label='sRGB')
        for channel, (name, colour) in enumerate((('red', '#D55E00'), ('green', '#009E73'), ('blue', '#0072B2'))):
            light = camera.table[:, channel]
            axes.plot(levels, light / light[LEVELS // 2], color=colour, label=name)
        axes.set(xlabel='grey level', ylabel='light (1 at level 128)', yscale=scale, xlim=(0, LEVELS - 1))
        axes.grid(color='#DDDDDD')
        axes.legend()
    figure.savefig(file, dpi=120)
