"""The toolbox's SwinIR, whose names and shapes are those of its authors."""

from __future__ import annotations

import math
from typing import Any

from pdan_plugin.weights.families.family import Assumed, Family, NotThisFamily, State, count, shuffle_scale

_BLOCK = 'layers.0.residual_group.blocks.0.'
_NUM_FEAT = 64  # of the tail


def _options(state: State) -> dict[str, Any]:
    embed_dim, in_chans = state['conv_first.weight'].shape[:2]
    layers = count(state, 'layers.', '.residual_group.blocks.0.norm1.weight')
    blocks = [f'layers.{layer}.residual_group.blocks' for layer in range(layers)]
    biases = [state[f'{each}.0.attn.relative_position_bias_table'] for each in blocks]
    window_size = (math.isqrt(biases[0].shape[0]) + 1) // 2
    return {
        'in_chans': in_chans,
        'embed_dim': embed_dim,
        'img_size': _img_size(state, window_size),
        'window_size': window_size,
        'depths': [count(state, f'{each}.', '.norm1.weight') for each in blocks],
        'num_heads': [bias.shape[1] for bias in biases],
        'mlp_ratio': state[f'{_BLOCK}mlp.fc1.weight'].shape[0] / embed_dim,
        'qkv_bias': f'{_BLOCK}attn.qkv.bias' in state,
        'ape': 'absolute_pos_embed' in state,
        'patch_norm': 'patch_embed.norm.weight' in state,
        'resi_connection': '1conv' if 'layers.0.conv.weight' in state else '3conv',
        # the authors' networks against JPEG, which have windows of 7, are the only ones on [0, 255]
        'img_range': Assumed(255.0, (1.0,)) if window_size == 7 else Assumed(1.0, (255.0,)),
        **_upsampler(state, in_chans),
    }


def _upsampler(state: State, in_chans: int) -> dict[str, Any]:
    if 'conv_up1.weight' in state:
        return {'upsampler': 'nearest+conv', 'upscale': 4}
    if 'conv_before_upsample.0.weight' in state:
        return {'upsampler': 'pixelshuffle', 'upscale': shuffle_scale(state, _NUM_FEAT)}
    if 'upsample.0.weight' in state:
        upscale = math.isqrt(state['upsample.0.weight'].shape[0] // in_chans)
        return {'upsampler': 'pixelshuffledirect', 'upscale': upscale}
    return {'upsampler': '', 'upscale': 1}


def _img_size(state: State, window_size: int) -> int:
    """The side of the pictures in training: the masks of its windows are among the weights."""
    if 'absolute_pos_embed' in state:
        pixels = state['absolute_pos_embed'].shape[1]
    elif masks := [value for name, value in state.items() if name.endswith('.attn_mask')]:
        pixels = masks[0].shape[0] * window_size**2
    else:  # nothing depends on it
        return 8 * window_size
    if math.isqrt(pixels) ** 2 != pixels:
        raise NotThisFamily(f'it was trained with pictures of {pixels} pixels that were not square')
    return math.isqrt(pixels)


SWINIR = Family(
    'SwinIR',
    ('conv_first.weight', f'{_BLOCK}attn.relative_position_bias_table', f'{_BLOCK}mlp.fc1.weight', 'norm.weight'),
    _options,
)
