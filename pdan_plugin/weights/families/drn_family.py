"""DRN's arguments from its weights, those of this project or those that the authors released."""

from __future__ import annotations

from typing import Any

from pdan_plugin.archs.drn_arch import own_name
from pdan_plugin.weights.families.family import Family, NotThisFamily, State, count, usual_range


def _options(state: State) -> dict[str, Any]:
    num_feat, num_in_ch = state['head.weight'].shape[:2]
    levels = count(state, 'down.', '.0.weight')
    return {
        'num_in_ch': num_in_ch,
        'num_out_ch': state['tail.0.weight'].shape[0],
        'num_feat': num_feat,
        'num_block': count(state, 'up.0.', '.rcab.0.weight'),
        'squeeze_factor': _squeeze_factor(state, levels),
        'upscale': 2**levels,
        **_range(state, num_in_ch),
    }


def _range(state: State, num_in_ch: int) -> dict[str, Any]:
    usual = usual_range(num_in_ch)
    is_shown = 'mean' in state or 'sub_mean.bias' in state  # loading takes the mean from there
    return {**usual, 'rgb_mean': usual['rgb_mean'].value} if is_shown else usual


def _squeeze_factor(state: State, levels: int) -> int:
    """A factor that gives the gates of all levels their channels; several may, and all of these mean one network."""
    gates = [state[f'up.{level}.0.rcab.3.attention.1.weight'].shape[:2] for level in range(levels)]
    fitting = [
        factor
        for factor in range(1, max(channels for _, channels in gates) + 1)
        if all(channels // factor == squeezed for squeezed, channels in gates)
    ]
    if not fitting:
        raise NotThisFamily(f'no squeeze_factor gives its channel attention {[squeezed for squeezed, _ in gates]}')
    return next((each for each in fitting if all(channels % each == 0 for _, channels in gates)), fitting[-1])


DRN = Family(
    'DRN',
    ('head.weight', 'down.0.0.weight', 'up.0.0.rcab.0.weight', 'tail.0.weight'),
    _options,
    renamed=lambda state: {own_name(name): value for name, value in state.items()},
)
