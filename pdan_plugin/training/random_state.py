"""The random generators of a process: saved in a training state and restored on resume."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from pdan_plugin.machine.accelerators import device_module


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of Python's, numpy's and torch's global generators, and, if ``device`` is a GPU, of its generator.

    It holds plain numbers and tensors only, so torch.load can read it with ``weights_only``.
    """
    # stock data sets and networks draw from numpy's global generator
    kind, words, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {
        'python': random.getstate(),
        'numpy': (kind, torch.from_numpy(np.asarray(words, np.int64)), int(position), int(has_gauss), float(gauss)),
        'torch': torch.get_rng_state(),
    }
    if (gpu := device_module(device)) is not None:
        state[device.type] = gpu.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restores a state from :func:`random_state`. A state saved on a CPU does not change a GPU's generator."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    kind, numpy_words, *further = state['numpy']
    np.random.set_state((kind, numpy_words.numpy().astype(np.uint32), *further))  # noqa: NPY002
    torch.set_rng_state(state['torch'])
    gpu = device_module(device)
    if gpu is not None and device.type in state:
        gpu.set_rng_state(state[device.type], device)


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Restores the generators at the end of the block, so draws inside it do not affect later ones."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
