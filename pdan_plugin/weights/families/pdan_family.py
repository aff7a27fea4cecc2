"""PDAN's arguments from its weights; needs only torch, because `pdan_plugin.spandrel_arch` uses it too."""

from __future__ import annotations

from typing import Any

from pdan_plugin.weights.families.family import Family, State, count, shuffle_scale, usual_range


def pdan_options(state: State) -> dict[str, Any]:
    """The arguments of PDAN's constructor, for inference."""
    first = state['conv_first.weight']
    num_feat, num_in_ch = first.shape[:2]
    fuse = state.get('fuse.weight')
    return {
        'num_in_ch': num_in_ch,
        'num_out_ch': state['conv_last.weight'].shape[0],
        'num_feat': num_feat,
        'num_group': count(state, 'body.', '.conv.weight'),
        'num_block': count(state, 'body.0.blocks.', '.conv1.weight'),
        'squeeze_factor': num_feat // state['body.0.blocks.0.channel_gate.squeeze.weight'].shape[0],
        'upscale': shuffle_scale(state, num_feat),
        'attention': 'rsca' if 'body.0.blocks.0.spatial_gate.project.weight' in state else 'ca',
        'fuse_levels': 0 if fuse is None else fuse.shape[1] // num_feat,
        'deblur_branch': False,
        **usual_range(num_in_ch),
    }


PDAN = Family(
    'PDAN',
    (
        'conv_first.weight',
        'body.0.blocks.0.conv1.weight',
        'body.0.blocks.0.channel_gate.squeeze.weight',
        'conv_after_body.weight',
        'conv_last.weight',
    ),
    pdan_options,
)
