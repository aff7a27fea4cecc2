"""LogMSELoss against the toolbox's PSNR, and its gradient against finite differences."""

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr

from pdan_plugin.losses.log_mse_loss import LogMSELoss


def test_is_the_mean_of_the_negative_psnr_of_each_image():
    generator = np.random.default_rng(0)
    target = generator.integers(0, 256, (3, 3, 8, 10)).astype(np.float64)
    pred = np.clip(target + generator.normal(0, [[[[2]]], [[[9]]], [[[40]]]], target.shape), 0, 255)
    psnr = [calculate_psnr(p, t, crop_border=0, input_order='CHW') for p, t in zip(pred, target, strict=True)]
    loss = LogMSELoss(floor=1e-15)(torch.tensor(pred / 255), torch.tensor(target / 255))
    assert loss.item() == pytest.approx(-np.mean(psnr), abs=1e-9)


def test_each_frame_of_a_clip_is_an_image():
    pred, target = torch.rand(2, 3, 3, 4, 5), torch.rand(2, 3, 3, 4, 5)
    loss = LogMSELoss()
    torch.testing.assert_close(loss(pred, target), loss(pred.flatten(0, 1), target.flatten(0, 1)))
    assert (loss(pred, target) - loss(pred.flatten(1, 2), target.flatten(1, 2))).abs() > 1e-4


def test_gradient():
    pred = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: LogMSELoss(0.3)(p, target), pred)


def test_equal_pictures_have_a_finite_loss_and_no_gradient():
    pred = torch.rand(1, 3, 4, 4, requires_grad=True)
    loss = LogMSELoss(floor=1e-5)(pred, pred.detach())
    loss.backward()
    assert loss.item() == pytest.approx(-50)
    assert pred.grad is not None
    assert (pred.grad == 0).all()


def test_half_precision_is_computed_in_float32():
    pred, target = torch.rand(2, 3, 4, 4).half(), torch.rand(2, 3, 4, 4)
    loss = LogMSELoss()(pred, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LogMSELoss()(pred.float(), target))


@pytest.mark.parametrize(
    ('pred', 'target', 'message'),
    [
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 3), r'got \(1, 3, 2, 2\) and \(1, 3, 2, 3\)'),
        (torch.zeros(3, 2, 2), torch.zeros(3, 2, 2), r'needs pred and target of one shape'),
        (torch.zeros(0, 3, 2, 2), torch.zeros(0, 3, 2, 2), 'not empty'),
        (torch.zeros(1, 3, 2, 2).long(), torch.zeros(1, 3, 2, 2).long(), 'torch.int64'),
    ],
    ids=['shapes differ', 'no batch', 'empty', 'integers'],
)
def test_wrong_input(pred, target, message):
    with pytest.raises(ValueError, match=message):
        LogMSELoss()(pred, target)


@pytest.mark.parametrize('arguments', [{'loss_weight': 0}, {'floor': 0.0}, {'floor': float('nan')}], ids=str)
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match=f'{next(iter(arguments))}: expected a number above 0'):
        LogMSELoss(**arguments)
