"""Compares training in bfloat16 and float32: the loss of an RCAN in both, and its random variation."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.contenders import Contender, ours, rcan, stock
from benchmarks.pictures import training_batch
from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import opened_whole

REFERENCE = 'stock toolbox, fp32'
TRIED = 'bf16+channels_last'
OTHER_START = 'stock toolbox, fp32, other initial weights'
_BATCH = 4
_LAST = 100
_WINDOWS = 5
_COLOURS = {REFERENCE: '#0072B2', TRIED: '#D55E00', OTHER_START: '#777777'}


@dataclass(frozen=True)
class Run:
    """One of the compared runs; all see the same crops. ``seed`` draws the initial weights."""

    name: str
    is_stock: bool
    seed: int

    def start(self, width: int, device: torch.device) -> Contender:
        if self.is_stock:
            return stock(rcan(width), device, self.seed)
        return ours(rcan(width), self.name, device, self.seed)


RUNS = (Run(REFERENCE, True, 0), Run(TRIED, False, 0), Run(OTHER_START, True, 1))


def compare_curves(
    picture: Path,
    iterations: int,
    width: int,
    device: torch.device,
    described: Mapping[str, Any],
    state_every: int = 25,
) -> dict[str, Any]:
    """Trains the three runs and draws their losses.

    Until the picture is finished, the runs' states are in a folder beside it; the same call continues from them.

    Args:
        picture: The file to draw, in a format of matplotlib by its suffix; the losses are written beside it as JSON.
        described: The machine, for the record.
        state_every: Iterations between two saved states.

    Returns:
        ``mean_loss`` of each run's last 100 iterations; ``difference`` of bfloat16 from float32, and ``noise``, the
        difference of float32 from float32 that began at other weights: each the root mean square over the means of five
        equal stretches of the second half; ``within_noise``: the one is no larger than the other; ``losses``: all of
        them; ``iterations``, ``width``, ``machine``.

    Raises:
        RequestError: Too few iterations to compare, a picture that cannot be written, or states of another run.
    """
    if iterations < 2 * _WINDOWS:
        raise RequestError(f'--iterations {iterations}: at least {2 * _WINDOWS} are needed to compare anything.')
    _check_picture(picture)
    folder = picture.with_name(picture.name + '.states')
    folder.mkdir(parents=True, exist_ok=True)
    losses = {run.name: train_run(run, folder, iterations, width, device, state_every=state_every) for run in RUNS}
    result = {
        'benchmark': 'train --picture',
        **judge(losses),
        'iterations': iterations,
        'width': width,
        'losses': losses,
        'machine': dict(described),
    }
    draw(losses, picture, f'RCAN, {width} features, batches of {_BATCH} of 64x64')
    picture.with_suffix('.json').write_text(json.dumps(result) + '\n', encoding='utf-8')
    shutil.rmtree(folder)
    return result


def train_run(
    run: Run, folder: Path, iterations: int, width: int, device: torch.device, *, state_every: int
) -> list[float]:
    """The loss at each iteration; continues from the state in ``folder`` if there is one."""
    # everything the numbers depend on, without the number of iterations
    kind = {
        'run': run.name, 'seed': run.seed, 'width': width, 'batch': _BATCH, 'device': device.type,
        'torch': str(torch.__version__),
    }  # fmt: skip
    path = folder / f'{run.name.replace(", ", "_").replace(" ", "_")}.state'
    side = run.start(width, device)
    losses: list[float] = []
    if path.exists():
        losses = _load(side, path, kind)[:iterations]
    with (
        side.context(),
        tqdm(total=iterations, initial=len(losses), desc=run.name, unit='iteration', disable=None) as bar,
    ):
        for iteration in range(len(losses) + 1, iterations + 1):
            side.step(iteration, training_batch(_BATCH, 0, iteration))
            losses.append(float(side.model.get_current_log()['l_pix']))
            bar.update()
            if iteration % state_every == 0 or iteration == iterations:
                _save(side, path, kind, losses)
    return losses


def _save(side: Contender, path: Path, kind: Mapping[str, Any], losses: list[float]) -> None:
    model = side.model
    state = {
        'kind': dict(kind),
        'losses': losses,
        'net_g': model.net_g.state_dict(),
        'net_g_ema': model.net_g_ema.state_dict(),
        'optimizer': model.optimizer_g.state_dict(),
    }
    with opened_whole(path) as file:
        torch.save(state, file)


def _load(side: Contender, path: Path, kind: Mapping[str, Any]) -> list[float]:
    state = torch.load(path, map_location='cpu', weights_only=True)
    if state['kind'] != kind:
        raise RequestError(
            f'{path} is the state of another run: {state["kind"]}, wanted {dict(kind)}. Remove the folder '
            f'{path.parent}, or choose another name for the picture.'
        )
    side.model.net_g.load_state_dict(state['net_g'])
    side.model.net_g_ema.load_state_dict(state['net_g_ema'])
    side.model.optimizer_g.load_state_dict(state['optimizer'])
    return state['losses']


def judge(losses: Mapping[str, list[float]]) -> dict[str, Any]:
    """``mean_loss``, ``difference``, ``noise`` and ``within_noise`` as in :func:`compare_curves`."""
    stretches = {name: _means_of_second_half(values) for name, values in losses.items()}
    difference = _root_mean_square(stretches[TRIED] - stretches[REFERENCE])
    noise = _root_mean_square(stretches[OTHER_START] - stretches[REFERENCE])
    return {
        'mean_loss': {name: float(np.mean(values[-_LAST:])) for name, values in losses.items()},
        'difference': difference,
        'noise': noise,
        'within_noise': difference <= noise,
    }


def _means_of_second_half(values: list[float]) -> np.ndarray:
    """(5,)"""
    return np.array([part.mean() for part in np.array_split(np.asarray(values)[len(values) // 2 :], _WINDOWS)])


def _root_mean_square(values: np.ndarray) -> float:
    return math.sqrt(float(np.mean(values**2)))


def draw(losses: Mapping[str, list[float]], picture: Path, title: str) -> None:
    """Draws the smoothed losses (top) and their difference from the float32 run (bottom)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    length = len(losses[REFERENCE])
    window = max(1, length // 20)
    smoothed = {name: np.convolve(values, np.ones(window) / window, mode='valid') for name, values in losses.items()}
    places = np.arange(window, length + 1)
    figure = Figure(figsize=(9, 6.5), dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for name, values in smoothed.items():
        # two curves that lie on each other are both seen
        above.plot(places, values, color=_COLOURS[name], label=name, linewidth=4 if name == REFERENCE else 1.2)
        if name != REFERENCE:
            below.plot(places, values - smoothed[REFERENCE], color=_COLOURS[name], linewidth=1.4)
    above.set_yscale('log')
    above.set_title(title, loc='left')
    above.set_ylabel(f'L1 loss, mean of {window} iterations')
    above.legend(frameon=False)
    below.axhline(0, color=_COLOURS[REFERENCE], linewidth=1)
    below.set_ylabel('difference')
    below.set_xlabel('iteration')
    for axes in (above, below):
        axes.grid(color='#DDDDDD', linewidth=0.6)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(picture)


def _check_picture(picture: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    endings = FigureCanvasAgg.get_supported_filetypes()
    if picture.suffix.lstrip('.').lower() not in endings:
        raise RequestError(f'--picture {picture}: expected a name that ends in one of {", ".join(sorted(endings))}.')
    if not picture.parent.is_dir():
        raise RequestError(f'--picture {picture}: there is no folder {picture.parent}.')


def table(result: Mapping[str, Any]) -> str:
    lines = [f'Mean L1 loss of the last {min(_LAST, result["iterations"])} of {result["iterations"]} iterations:']
    lines += [f'  {name:<40}{value:>12.6f}' for name, value in result['mean_loss'].items()]
    lines.append(
        f'{TRIED} differs from fp32 by {result["difference"]:.6f}, fp32 from other initial weights by '
        f'{result["noise"]:.6f} (second half, root mean square of {_WINDOWS} stretches): '
        + ('within the noise.' if result['within_noise'] else 'NOT within the noise.')
    )
    return '\n'.join(lines)
