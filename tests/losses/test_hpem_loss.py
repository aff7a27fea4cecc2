"""HPEMLoss against an independent implementation that sorts, as the paper words it."""

import numpy as np
import pytest
import torch

from pdan_plugin.losses.hpem_loss import HPEMLoss, hard_pixel_mask


def by_sorting(pred, target, ratio, weight, normalize):
    """The paper's words in NumPy: sort every image's pixels by error, mark the first k, average. (loss, gradient of
    pred)"""
    n, c, h, w = pred.shape
    k = round(ratio * h * w)
    loss, gradient = 0.0, np.zeros_like(pred)
    for image in range(n):
        difference = pred[image] - target[image]
        error = np.abs(difference).sum(axis=0).ravel()
        hardest = np.argsort(-error, kind='stable')[:k]
        mask = np.zeros(h * w)
        mask[hardest] = 1
        mask = mask.reshape(h, w)
        elements = c * h * w if normalize == 'all' else c * k
        per_element = 1 / (c * h * w) + (weight * mask / elements if k else 0 * mask)
        loss += (np.abs(difference) * per_element).sum() / n
        gradient[image] = np.sign(difference) * per_element / n
    return loss, gradient


@pytest.mark.parametrize('normalize', ['all', 'hard'])
@pytest.mark.parametrize('ratio', [0.0, 0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize('shape', [(3, 3, 8, 9), (1, 1, 1, 5), (2, 4, 7, 7)])
@pytest.mark.parametrize('levels', [None, 3], ids=['distinct', 'many ties'])
def test_equals_sorting(normalize, ratio, shape, levels):
    generator = np.random.default_rng(1)
    pred, target = generator.random(shape), generator.random(shape)
    if levels:
        pred, target = np.round(pred * levels) / levels, np.round(target * levels) / levels
    expected, expected_gradient = by_sorting(pred, target, ratio, 1.7, normalize)

    pred = torch.tensor(pred, requires_grad=True)
    loss = HPEMLoss(hard_ratio=ratio, hard_weight=1.7, normalize=normalize)(pred, torch.tensor(target))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(pred.grad.numpy(), expected_gradient, rtol=1e-12)


@pytest.mark.parametrize('hard_count', [0, 1, 7, 31, 62, 63])
def test_exactly_k_pixels_whatever_the_ties(hard_count):
    error = torch.randint(0, 3, (5, 7, 9)).float()
    mask = hard_pixel_mask(error, hard_count)
    assert mask.sum((1, 2)).tolist() == [hard_count] * 5
    for image, marked in zip(error, mask, strict=True):
        if 0 < hard_count < 63:
            assert image[marked].min() >= image[~marked].max()


def test_flat_error_marks_the_first_pixels():
    assert hard_pixel_mask(torch.ones(1, 2, 3), 4).flatten().tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize('normalize', ['all', 'hard'])
def test_gradcheck(normalize):
    # Steps of 1e-6 must not change which pixels are hard, nor a sign: the pixels' sums well apart, no error near zero.
    pixel = torch.stack([torch.randperm(20) for _ in range(2)]).double().view(2, 1, 5, 4)
    error = 10 * pixel + torch.arange(1.0, 4.0).double().view(1, 3, 1, 1)
    sign = torch.where(torch.rand(error.shape) < 0.5, -1.0, 1.0)
    target = torch.rand_like(error).requires_grad_()
    pred = (target.detach() + sign * error).requires_grad_()
    loss = HPEMLoss(loss_weight=0.3, normalize=normalize)
    assert torch.autograd.gradcheck(loss, (pred, target))


def test_mask_carries_no_gradient():
    pred = torch.zeros(1, 1, 1, 4, requires_grad=True)
    target = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    HPEMLoss()(pred, target).backward()
    assert pred.grad.flatten().tolist() == pytest.approx([-1 / 4, -1 / 4, -3 / 4, -3 / 4])


def test_a_value_by_hand():
    loss = HPEMLoss(hard_ratio=0.25, hard_weight=2.0)
    pred = torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]]])
    assert loss(pred, torch.zeros_like(pred)).item() == pytest.approx(1 + 2 * 1)
    loss.normalize = 'hard'
    assert loss(pred, torch.zeros_like(pred)).item() == pytest.approx(1 + 2 * 4)


def test_reductions_agree():
    pred, target = torch.rand(2, 3, 6, 5), torch.rand(2, 3, 6, 5)
    each = HPEMLoss(reduction='none')(pred, target)
    assert each.shape == pred.shape
    torch.testing.assert_close(HPEMLoss()(pred, target), each.mean())
    torch.testing.assert_close(HPEMLoss(reduction='sum')(pred, target), each.sum())


def test_no_hard_weight_is_l1():
    pred, target = torch.rand(2, 3, 6, 5), torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(HPEMLoss(hard_weight=0.0)(pred, target), torch.nn.functional.l1_loss(pred, target))


def test_half_precision_input_is_computed_in_float32():
    pred, target = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    loss = HPEMLoss()(pred.bfloat16(), target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(HPEMLoss()(pred.bfloat16().float(), target).item())


def test_a_nan_is_not_hidden():
    pred = torch.rand(1, 3, 8, 8)
    pred[0, 0, 0, 0] = float('nan')
    assert torch.isnan(HPEMLoss()(pred, torch.rand(1, 3, 8, 8)))


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [({'hard_ratio': 1.5}, 'hard_ratio'), ({'normalize': 'some'}, 'normalize'), ({'reduction': 'avg'}, 'reduction')],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        HPEMLoss(**arguments)


@pytest.mark.parametrize('pred', [torch.zeros(1, 3, 4, 4, dtype=torch.int64), torch.zeros(0, 3, 4, 4)])
def test_integers_and_nothing_are_refused(pred):
    with pytest.raises(ValueError, match='floating-point'):
        HPEMLoss()(pred, pred)


@pytest.mark.parametrize('normalize', ['all', 'hard'])
def test_the_frames_of_a_clip_are_ranked_each_on_its_own(normalize):
    """The mean over the frames as separate pictures; the second frame's errors are all larger than the first's."""
    pred, target = torch.rand(2, 3, 3, 6, 8, requires_grad=True), torch.rand(2, 3, 3, 6, 8)
    clips = pred * torch.tensor([1.0, 10.0, 2.0]).view(1, 3, 1, 1, 1)
    loss = HPEMLoss(hard_ratio=0.3, normalize=normalize)
    frames = torch.stack([loss(clips[n, t][None], target[n, t][None]) for n in range(2) for t in range(3)])
    assert loss(clips, target).item() == pytest.approx(frames.mean().item(), rel=1e-6)
    expected = torch.autograd.grad(frames.mean(), pred, retain_graph=True)[0]
    found = torch.autograd.grad(loss(clips, target), pred, retain_graph=True)[0]
    torch.testing.assert_close(found, expected)
    each = HPEMLoss(hard_ratio=0.3, normalize=normalize, reduction='none')(clips, target)
    assert each.shape == clips.shape
    assert each.mean().item() == pytest.approx(frames.mean().item(), rel=1e-6)


def test_shapes_that_differ_are_told():
    with pytest.raises(ValueError, match=r'\(1, 3, 4, 4\).*\(1, 3, 4, 5\)'):
        HPEMLoss()(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
