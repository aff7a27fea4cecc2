"""The eight geometric forms: against numpy, and what they are for."""

import numpy as np
import torch
from torch import nn

from pdan_plugin.restoration.self_ensemble import GEOMETRIC_FORMS, self_ensemble


def _network():
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Tanh(), nn.PixelShuffle(2)).requires_grad_(False)


def test_it_is_the_mean_of_the_eight_forms_written_out():
    network = _network()
    picture = torch.rand(1, 3, 7, 10)

    def run(array):
        return network(torch.from_numpy(np.ascontiguousarray(array))[None])[0].numpy().astype(np.float64)

    array = picture[0].numpy()
    turned = array.transpose(0, 2, 1)
    expected = np.mean(
        [
            run(array),
            run(array[:, ::-1])[:, ::-1],
            run(array[:, :, ::-1])[:, :, ::-1],
            run(array[:, ::-1, ::-1])[:, ::-1, ::-1],
            run(turned).transpose(0, 2, 1),
            run(turned[:, ::-1])[:, ::-1].transpose(0, 2, 1),
            run(turned[:, :, ::-1])[:, :, ::-1].transpose(0, 2, 1),
            run(turned[:, ::-1, ::-1])[:, ::-1, ::-1].transpose(0, 2, 1),
        ],
        axis=0,
    )
    result = self_ensemble(network)(picture)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result[0].numpy(), expected, atol=1e-6)


def test_a_turned_picture_gives_the_turned_result():
    restore = self_ensemble(_network())
    picture = torch.rand(2, 3, 6, 9)
    for form in GEOMETRIC_FORMS:
        torch.testing.assert_close(restore(form.apply(picture)), form.apply(restore(picture)))


def test_results_in_bfloat16_are_summed_in_float32():
    value = torch.full((1, 1, 2, 2), 1.0)
    results = iter([1.0, *[2**-8] * 7])  # in bfloat16 each small one would vanish beside the one
    restored = self_ensemble(lambda _: (value * next(results)).bfloat16())(value)
    assert restored.unique().item() == (1 + 7 * 2**-8) / 8
