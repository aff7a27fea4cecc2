"""The toolbox's RCAN, EDSR and RRDBNet: residual blocks of convolutions."""

from __future__ import annotations

from typing import Any

from pdan_plugin.weights.families.family import Assumed, Family, NotThisFamily, State, count, shuffle_scale, usual_range

_RES_SCALE = {'res_scale': Assumed(1.0, (0.1,))}  # the large EDSR is trained with 0.1


def _ends(state: State) -> dict[str, Any]:
    """What the first and the last convolution show."""
    num_feat, num_in_ch = state['conv_first.weight'].shape[:2]
    return {'num_in_ch': num_in_ch, 'num_out_ch': state['conv_last.weight'].shape[0], 'num_feat': num_feat}


def _rcan_options(state: State) -> dict[str, Any]:
    ends = _ends(state)
    squeeze = state['body.0.residual_group.0.rcab.3.attention.1.weight']
    return {
        **ends,
        'num_group': count(state, 'body.', '.conv.weight'),
        'num_block': count(state, 'body.0.residual_group.', '.rcab.0.weight'),
        'squeeze_factor': ends['num_feat'] // squeeze.shape[0],
        'upscale': shuffle_scale(state, ends['num_feat']),
        **_RES_SCALE,
        **usual_range(ends['num_in_ch']),
    }


def _edsr_options(state: State) -> dict[str, Any]:
    ends = _ends(state)
    return {
        **ends,
        'num_block': count(state, 'body.', '.conv1.weight'),
        'upscale': shuffle_scale(state, ends['num_feat']),
        **_RES_SCALE,
        **usual_range(ends['num_in_ch']),
    }


def _rrdbnet_options(state: State) -> dict[str, Any]:
    ends = _ends(state)
    channels, colours = ends['num_in_ch'], ends['num_out_ch']
    scale = {colours: 4, 4 * colours: 2, 16 * colours: 1}.get(channels)
    if scale is None:
        raise NotThisFamily(
            f'its first convolution takes {channels} channels and its last gives {colours}: expected {colours}, '
            f'{4 * colours} (2x) or {16 * colours} (1x) in the first'
        )
    return {
        **ends,
        'num_in_ch': colours,
        'scale': scale,
        'num_block': count(state, 'body.', '.rdb1.conv1.weight'),
        'num_grow_ch': state['body.0.rdb1.conv1.weight'].shape[0],
    }


RCAN = Family(
    'RCAN',
    ('conv_first.weight', 'body.0.residual_group.0.rcab.0.weight', 'conv_after_body.weight', 'conv_last.weight'),
    _rcan_options,
)
EDSR = Family(
    'EDSR',
    ('conv_first.weight', 'body.0.conv1.weight', 'body.0.conv2.weight', 'conv_after_body.weight', 'conv_last.weight'),
    _edsr_options,
)
RRDBNET = Family(
    'RRDBNet',
    ('conv_first.weight', 'body.0.rdb1.conv1.weight', 'conv_body.weight', 'conv_up1.weight', 'conv_last.weight'),
    _rrdbnet_options,
)
