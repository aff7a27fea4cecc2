"""The toolbox's SRVGGNetCompact: one chain of convolutions and activations."""

from __future__ import annotations

import math
import re
from typing import Any

from pdan_plugin.weights.families.family import Assumed, Family, NotThisFamily, State

_WEIGHT = re.compile(r'body\.(\d+)\.weight')


def _options(state: State) -> dict[str, Any]:
    found = {int(match[1]): value for name, value in state.items() if (match := _WEIGHT.fullmatch(name))}
    convolutions = sorted(number for number, value in found.items() if value.dim() == 4)
    num_feat, num_in_ch = state['body.0.weight'].shape[:2]
    last = state[f'body.{convolutions[-1]}.weight'].shape[0]
    upscale = math.isqrt(last // num_in_ch)
    if last != num_in_ch * upscale**2:
        raise NotThisFamily(
            f'its last convolution has {last} channels, which is no square number times the {num_in_ch} of its input'
        )
    activation = state.get('body.1.weight')
    return {
        'num_in_ch': num_in_ch,
        'num_out_ch': num_in_ch,  # the enlarged input is added to the result
        'num_feat': num_feat,
        'num_conv': len(convolutions) - 2,
        'upscale': upscale,
        'act_type': Assumed('leakyrelu', ('relu',)) if activation is None else 'prelu',
    }


SRVGG = Family('SRVGGNetCompact', ('body.0.weight', 'body.2.weight'), _options)
