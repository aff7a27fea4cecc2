"""Names that older projects import are importable."""


def test_moved_names_are_importable_from_their_old_places(python):
    done = python(
        'import pdan_plugin\n'
        'from basicsr.utils.matlab_functions import bgr2ycbcr, imresize, rgb2ycbcr, ycbcr2bgr, ycbcr2rgb\n'
        'from basicsr.losses.losses import CharbonnierLoss, GANLoss, L1Loss, PerceptualLoss, r1_penalty\n'
        'from basicsr.losses import basic_loss, losses\n'
        'from basicsr.utils import color_util\n'
        'print(losses.L1Loss is basic_loss.L1Loss is L1Loss, rgb2ycbcr is color_util.rgb2ycbcr)\n'
    )
    assert done.stdout == 'True True\n', done.stderr
