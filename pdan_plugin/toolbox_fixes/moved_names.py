"""Names that BasicSR 1.4 moved, for projects written for an older one: importable from their old places too."""

from __future__ import annotations

import sys

from basicsr import losses
from basicsr.losses import basic_loss, gan_loss
from basicsr.utils import color_util, matlab_functions

from pdan_plugin.toolbox_fixes.imports import stand_in
from pdan_plugin.toolbox_fixes.patching import fix, replace

_LOSSES = 'basicsr.losses.losses'


@fix(
    where='utils/matlab_functions.py',
    upstream='none',
    symptom="projects for an older BasicSR, such as HAT: cannot import name 'rgb2ycbcr' from matlab_functions",
    behaves=lambda: hasattr(matlab_functions, 'rgb2ycbcr'),
)
def colour_conversions_are_also_in_matlab_functions() -> None:
    """They are now in `utils.color_util`."""
    for name in ('rgb2ycbcr', 'bgr2ycbcr', 'ycbcr2rgb', 'ycbcr2bgr'):
        replace(matlab_functions, name, getattr(color_util, name))


@fix(
    where='losses/losses.py',
    upstream='none',
    symptom="projects for an older BasicSR, such as GFPGAN: No module named 'basicsr.losses.losses'",
    behaves=lambda: _LOSSES in sys.modules,
)
def losses_are_also_in_one_module() -> None:
    """They are now in `losses.basic_loss` and `losses.gan_loss`."""
    public = {
        name: value
        for module in (basic_loss, gan_loss)
        for name, value in vars(module).items()
        if getattr(value, '__module__', None) == module.__name__
    }
    replace(losses, 'losses', stand_in(_LOSSES, public))
