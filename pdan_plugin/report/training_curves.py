"""Draws a training run: losses, learning rate and scores over the iterations."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pdan_plugin.training.history import TrainingLine, ValidationLine, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours for colour-blind readers, without yellow, which is too pale for a line
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
_INK, _FAINT = '#333333', '#DDDDDD'
_BINS = 1500  # about one bin per pixel of the picture's width
_LOG_FROM = 8.0  # ratio of largest to smallest value from which the axis is logarithmic


@dataclass
class _Series:
    """Values by iteration, in any order; some may not be finite."""

    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, iteration: int, value: float) -> None:
        self.iterations.append(iteration)
        self.values.append(value)

    def finite(self) -> tuple[np.ndarray, np.ndarray]:
        """Iterations and values, both (n,), sorted by iteration."""
        order = np.argsort(self.iterations, kind='stable')
        iterations, values = np.asarray(self.iterations)[order], np.asarray(self.values, dtype=float)[order]
        return iterations[np.isfinite(values)], values[np.isfinite(values)]

    def not_finite(self) -> list[int]:
        return [place for place, value in zip(self.iterations, self.values, strict=True) if not math.isfinite(value)]


@dataclass
class _Curves:
    losses: dict[str, _Series] = field(default_factory=dict)
    others: dict[str, _Series] = field(default_factory=dict)
    rates: dict[str, _Series] = field(default_factory=dict)
    metrics: dict[str, dict[str, _Series]] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Iterable[TrainingLine | ValidationLine]) -> _Curves:
        curves = cls()
        for line in lines:
            if isinstance(line, ValidationLine):
                for metric, value in line.metrics.items():
                    by_dataset = curves.metrics.setdefault(metric, {})
                    by_dataset.setdefault(line.dataset, _Series()).add(line.iteration, value)
                continue
            for name, value in line.losses.items():
                group = curves.losses if name.startswith('l_') else curves.others
                group.setdefault(name, _Series()).add(line.iteration, value)
            for number, value in enumerate(line.learning_rates):
                curves.rates.setdefault(f'parameter group {number}', _Series()).add(line.iteration, value)
        return curves


def draw_curves(
    history_path: str | os.PathLike[str],
    picture_path: str | os.PathLike[str],
    *,
    lower_is_better: Collection[str] = (),
) -> bool:
    """Draws a history; the ending of the file name selects one of matplotlib's formats.

    Losses are drawn as logged (thin) and smoothed (thick; a mean over a fortieth of the points), on a logarithmic axis
    if they fall far. Long records are drawn as the range and mean of neighbouring points. A cross at the bottom marks
    an iteration with a non-finite value. The best point of each metric is marked.

    Args:
        history_path: A file that :class:`~pdan_plugin.training.history.History` wrote.
        picture_path: The picture to write; an existing file is replaced.
        lower_is_better: The metrics whose smallest value is the best, by their names under `val: metrics`.

    Returns:
        Whether a picture was drawn; False if the history does not exist or has no values.

    Raises:
        RequestError: A line of the history cannot be read.
        OSError: The picture cannot be written.
    """
    if not os.path.exists(history_path):
        return False
    curves = _Curves.of(read_history(history_path))
    panels: list[tuple[Any, float]] = []  # (function that draws it, height)
    if curves.losses:
        panels.append((lambda axes: _draw_logged(axes, 'Losses', curves.losses), 2.6))
    if curves.others:
        panels.append((lambda axes: _draw_logged(axes, 'Other logged values', curves.others), 1.8))
    if curves.rates:
        panels.append((lambda axes: _draw_rates(axes, curves.rates), 1.3))
    for metric, by_dataset in curves.metrics.items():
        panels.append((_metric_panel(metric, by_dataset, metric in lower_is_better), 2.0))
    if not panels:
        return False
    _draw(panels, picture_path)
    return True


def _draw(panels: list[tuple[Any, float]], picture_path: str | os.PathLike[str]) -> None:
    # imported here, because it takes longer than everything else that most commands import
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    heights = [height for _, height in panels]
    figure = Figure(figsize=(9, sum(heights) + 0.5 * len(panels) + 0.3), dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={'height_ratios': heights})[:, 0]
    for axes, (draw, _) in zip(rows, panels, strict=True):
        axes.grid(color=_FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(which='both', colors=_INK, labelsize=8, length=0)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ('left', 'bottom'))
            spine.set_color(_FAINT)
        draw(axes)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc='lower right', bbox_to_anchor=(1.0, 1.0), ncols=5, fontsize=8, frameon=False,
                        borderaxespad=0.2, handlelength=1.5, columnspacing=1.2)  # fmt: skip
    last = rows[-1]
    last.set_xlabel('iteration', fontsize=9, color=_INK)
    last.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    last.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))
    figure.savefig(picture_path)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc='left', fontsize=10, fontweight='bold', color=_INK, pad=6)


def _colours(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((name, _COLOURS[place % len(_COLOURS)]) for place, name in enumerate(names))


def _draw_logged(axes: Axes, title: str, group: dict[str, _Series]) -> None:
    broken: list[int] = []
    drawn: list[np.ndarray] = []
    for name, colour in _colours(group):
        broken += group[name].not_finite()
        iterations, values = group[name].finite()
        if len(values) == 0:
            axes.plot([], [], color=colour, label=f'{name}: never finite')
            continue
        drawn.append(values)
        places, low, mean, high = _binned(iterations, values)
        smooth = _smoothed(mean)
        label = f'{name}  {smooth[-1]:.3g}'
        if len(places) < 8:
            axes.plot(places, mean, color=colour, linewidth=1.6, marker='o', markersize=4, label=label)
            continue
        if len(places) < len(values):
            axes.fill_between(places, low, high, color=colour, alpha=0.25, linewidth=0)
        else:
            axes.plot(places, values, color=colour, alpha=0.35, linewidth=0.7)
        axes.plot(places, smooth, color=colour, linewidth=1.8, label=label)
    logarithmic = _falls_far(drawn)
    if logarithmic:
        axes.set_yscale('log')
        _label_decades(axes)
    if broken:
        axes.plot(
            broken, np.full(len(broken), 0.03), transform=axes.get_xaxis_transform(), linestyle='none',
            marker='x', color='#C00000', markersize=6, markeredgewidth=1.5, clip_on=False, label='not finite',
        )  # fmt: skip
    _title(axes, f'{title} (log scale)' if logarithmic else title)


def _draw_rates(axes: Axes, rates: dict[str, _Series]) -> None:
    distinct: dict[tuple[Any, ...], str] = {}
    for name, series in rates.items():
        distinct.setdefault((tuple(series.iterations), tuple(series.values)), name)
    every: list[np.ndarray] = []
    for name, colour in _colours(distinct.values()):
        iterations, values = rates[name].finite()
        every.append(values)
        axes.plot(
            iterations, values, color=colour, linewidth=1.6, marker='o' if len(values) == 1 else None,
            drawstyle='steps-pre', label=name if len(distinct) > 1 else None,
        )  # fmt: skip
    if _falls_far(every):
        axes.set_yscale('log')
        _label_decades(axes)
    else:
        axes.yaxis.set_major_formatter(lambda value, _: f'{value:.3g}')
        axes.set_ylim(bottom=0)
    _title(axes, 'Learning rate')


def _metric_panel(metric: str, by_dataset: dict[str, _Series], lower: bool) -> Any:
    def draw(axes: Axes) -> None:
        for dataset, colour in _colours(by_dataset):
            iterations, values = by_dataset[dataset].finite()
            if len(values) == 0:
                axes.plot([], [], color=colour, label=f'{dataset}: never finite')
                continue
            # the later one of equal scores, like the model's choice of the best
            best = len(values) - 1 - int(np.argmin(values[::-1]) if lower else np.argmax(values[::-1]))
            axes.plot(
                iterations, values, color=colour, linewidth=1.4, marker='o', markersize=3 if len(values) < 60 else 0,
                label=f'{dataset}: best {values[best]:.5g} at {iterations[best]:,}',
            )  # fmt: skip
            axes.plot(
                iterations[best], values[best], color=colour, marker='*', markersize=13, markeredgecolor='white',
                linestyle='none', zorder=5, clip_on=False,
            )  # fmt: skip
        _title(axes, f'{metric} ({"lower" if lower else "higher"} is better)')
        axes.ticklabel_format(axis='y', useOffset=False)

    return draw


def _binned(iterations: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(iterations, smallest, mean and largest values) of neighbouring points, in at most _BINS bins."""
    if len(values) <= _BINS:
        return iterations, values, values, values
    starts = np.linspace(0, len(values), _BINS, endpoint=False).astype(int)
    counts = np.diff(np.append(starts, len(values)))
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.add.reduceat(iterations, starts) / counts, low, np.add.reduceat(values, starts) / counts, high


def _smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over a window centred at each point.

    It is narrower at the start, to follow the steep fall of losses, and is cut off at the end.
    """
    half = len(values) // 80
    if half == 0:
        return values
    sums = np.concatenate(([0.0], np.cumsum(values)))
    places = np.arange(len(values))
    first = places - np.minimum(half, places)
    last = np.minimum(2 * places - first, len(values) - 1)
    return (sums[last + 1] - sums[first]) / (last + 1 - first)


def _falls_far(drawn: list[np.ndarray]) -> bool:
    """Whether all values are positive, and a linear axis would hide the small ones."""
    values = np.concatenate(drawn) if drawn else np.empty(0)
    if len(values) == 0 or values.min() <= 0:
        return False
    low, high = np.quantile(values, (0.02, 1.0))
    return bool(high / low >= _LOG_FROM)


def _label_decades(axes: Axes) -> None:
    """Labels a logarithmic axis; with few decades, at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    few = high / low < 1e3
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:.0e}' if value < 1e-3 else f'{value:g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
