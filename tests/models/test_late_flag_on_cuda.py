"""Training steps on a pretended CUDA device: how often the host waits for it."""

import pytest
import torch
from basicsr.models import build_model
from host_reads import needs_a_driver, pretended_cuda

from pdan_plugin.models import guarded_step
from pdan_plugin.models.restoration_model import RestorationModel
from pdan_plugin.training import fused_optimizers

pytestmark = pytest.mark.skipif(needs_a_driver(), reason='this torch asks the driver even for pretended tensors')
HPEM = {'type': 'HPEMLoss'}
RUNS = {
    'L1, EMA': ('RestorationModel', 'EDSR', {}),
    'HPEM, clipped': ('RestorationModel', 'EDSR', {'pixel_opt': HPEM, 'grad_clip_norm': 1.0}),
    'parts': ('RestorationModel', 'EDSR', {'accumulation_steps': 2}),
    'plateau': ('RestorationModel', 'EDSR', {'scheduler': {'type': 'ReduceLROnPlateau', 'window': 100}}),
    'two outputs': ('DualSupervisionModel', 'PDAN', {'pixel_opt': HPEM, 'deblur_opt': HPEM}),
    'dual networks': (
        'DualRegressionModel',
        'DRN',
        {'dual_opt': {'type': 'L1Loss'}, 'optim_dual': {'type': 'AdamW', 'lr': 1e-4}},
    ),
}


def on_cuda(model_opt, name):
    kind, network, further = RUNS[name]
    opt = model_opt(kind, network, ema_decay=0.9, **further) | {'num_gpu': 1}
    with torch.device('cuda'):
        return build_model(opt)


def take(model, iterations):
    for iteration in iterations:
        pictures = {
            key: torch.rand(2, 3, side, side, device='cpu') for key, side in (('lq', 8), ('lq_sharp', 8), ('gt', 32))
        }
        model.update_learning_rate(iteration)
        model.feed_data(pictures)
        model.optimize_parameters(iteration)


@pytest.mark.parametrize('name', RUNS)
def test_the_host_waits_for_no_step_and_once_before(model_opt, monkeypatch, name):
    with pretended_cuda(answer=0) as (host, order):
        model = on_cuda(model_opt, name)
        take(model, [1])
        host.reads.clear()
        take(model, [2, 3])
        assert host.reads == []
        model.settle_last_step()
    events = [word for word in order if word != 'backward']
    assert events == [f'event {number} {what}' for number in (1, 2, 3) for what in ('recorded', 'awaited')]
    for number in (1, 2):  # the device has the next step's work when the host waits
        between = order[order.index(f'event {number} recorded') : order.index(f'event {number} awaited')]
        assert 'backward' in between
    monkeypatch.setattr(guarded_step, 'skips_by_flag', lambda optimizers: False)
    with pretended_cuda(answer=1) as (host, order):
        model = on_cuda(model_opt, name)
        take(model, [1])
        host.reads.clear()
        take(model, [2, 3])
        assert len(host.reads) == 2
        assert set(order) == {'backward'}


def test_the_optimizers_that_obey_a_flag_on_the_device(model_opt):
    with pretended_cuda(), torch.device('cuda'):
        parameter = [torch.nn.Parameter(torch.zeros(2))]
        mixed = [*parameter, torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))]
        fused, plain = (torch.optim.Adam(parameter, fused=fused) for fused in (True, False))
        assert fused_optimizers.skips_by_flag([fused, torch.optim.AdamW(parameter, fused=True)])
        assert not fused_optimizers.skips_by_flag([fused, plain])
        assert not fused_optimizers.skips_by_flag([torch.optim.Adam(mixed, fused=True)])
        assert not fused_optimizers.skips_by_flag([torch.optim.SGD(parameter, lr=1, fused=True)])
    assert not fused_optimizers.skips_by_flag([torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], fused=True)])


def test_a_model_with_an_average_of_its_own_is_read_at_once(model_opt, monkeypatch):
    """A method of a plugin's model may not know the flag."""

    class OfAPlugin(RestorationModel):
        def model_ema(self, decay=0.999):
            super().model_ema(decay)

    kind, network, further = RUNS['L1, EMA']
    with pretended_cuda(answer=1) as (host, _):
        with torch.device('cuda'):
            model = OfAPlugin(model_opt(kind, network, ema_decay=0.9, **further) | {'num_gpu': 1})
        take(model, [1])
        assert len(host.reads) == 1
