"""The random generators of a process, kept in a training state and put back on resume."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of Python's, numpy's and torch's global generators, and of the CUDA generator of ``device``.

    Plain numbers and tensors only, which torch.load reads back by its safe rules.
    """
    # the global generator is the one stock data sets and networks draw from
    kind, words, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {
        'python': random.getstate(),
        'numpy': (kind, torch.from_numpy(np.asarray(words, np.int64)), int(position), int(has_gauss), float(gauss)),
        'torch': torch.get_rng_state(),
    }
    if device.type == 'cuda':
        state['cuda'] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts a state from :func:`random_state` back. One saved on a CPU leaves the CUDA generator as it is."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    kind, numpy_words, *further = state['numpy']
    np.random.set_state((kind, numpy_words.numpy().astype(np.uint32), *further))  # noqa: NPY002
    torch.set_rng_state(state['torch'])
    if device.type == 'cuda' and 'cuda' in state:
        torch.cuda.set_rng_state(state['cuda'], device)


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """What is drawn inside is drawn from the generators as they are, and then given back to them."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)
