"""Learning rates after warm-up, past the schedule's end, and on resume."""

import math

import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from basicsr.utils import get_root_logger

from pdan_plugin.training.plateau_schedule import PlateauSchedule


def _model(make_scheduler, lr=1.0):
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)]
    model.schedulers = [make_scheduler(model.optimizers[0])]
    return model


def _rates(model, iterations, warmup=-1):
    rates = []
    for iteration in range(1, iterations + 1):
        model.update_learning_rate(iteration, warmup_iter=warmup)
        model.optimizers[0].step()
        rates += model.get_current_learning_rate()
    return rates


def test_warm_up_ends_at_the_base_rate(stock):
    def rates():
        return _rates(_model(lambda optimizer: MultiStepRestartLR(optimizer, [6], gamma=0.5)), 8, warmup=4)

    with stock():
        assert rates()[3:] == pytest.approx([0.75, 0.75, 0.75, 0.375, 0.375])
    assert rates() == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.5, 0.5])


@pytest.mark.parametrize(
    'arguments',
    [
        {'milestones': [2, 4, 4, 9], 'gamma': 0.5},
        {'milestones': [2, 5, 8], 'gamma': 0.5, 'restarts': [0, 5], 'restart_weights': [1, 0.3]},
        {'milestones': [1], 'gamma': 0.5, 'restarts': [6], 'restart_weights': [0.1]},
    ],
)
def test_without_warm_up_the_schedule_is_the_published_one(stock, arguments):
    def rates():
        return _rates(_model(lambda optimizer: MultiStepRestartLR(optimizer, **arguments)), 12)

    with stock():
        published = rates()
    assert rates() == pytest.approx(published)


def test_cosine_stays_at_its_last_value(stock):
    def rates(iterations):
        def make(optimizer):
            return CosineAnnealingRestartLR(optimizer, [4, 2], restart_weights=[1, 0.5], eta_min=0.1)

        return _rates(_model(make), iterations)

    with stock():
        published = rates(7)
        with pytest.raises(TypeError):
            rates(8)
    mended = rates(12)
    assert mended[:7] == pytest.approx(published)
    assert mended[6:] == pytest.approx([0.1] * 6)
    assert mended[5] == pytest.approx(0.1 + 0.5 * 0.5 * 0.9 * (1 + math.cos(math.pi / 2)))


def test_the_option_files_schedule_wins_on_resume_and_says_so(stock, caplog, monkeypatch):
    def resumed():
        saved = _model(lambda optimizer: MultiStepRestartLR(optimizer, [100], gamma=0.5))
        _rates(saved, 3)
        model = _model(lambda optimizer: MultiStepRestartLR(optimizer, [5], gamma=0.1), lr=2.0)
        model.resume_training(
            {'optimizers': [saved.optimizers[0].state_dict()], 'schedulers': [saved.schedulers[0].state_dict()]}
        )
        rates = []
        for iteration in range(4, 9):
            model.update_learning_rate(iteration)
            rates += model.get_current_learning_rate()
        return rates

    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    with stock():
        assert resumed() == pytest.approx([1] * 5)
    caplog.clear()
    assert resumed() == pytest.approx([2, 2, 0.2, 0.2, 0.2])
    assert "milestones [5] in the option file, [100] in the state; the option file's is used" in caplog.text
    assert 'gamma 0.1 in the option file, 0.5 in the state' in caplog.text
    assert 'lr 2.0 in the option file, 1.0 in the state' in caplog.text


def test_an_unchanged_schedule_resumes_without_a_word(caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    saved, model = (_model(lambda optimizer: CosineAnnealingRestartLR(optimizer, [9])) for _ in range(2))
    _rates(saved, 3)
    model.resume_training(
        {'optimizers': [saved.optimizers[0].state_dict()], 'schedulers': [saved.schedulers[0].state_dict()]}
    )
    assert model.schedulers[0].last_epoch == 2
    assert not caplog.records


def test_another_kind_of_scheduler_starts_at_the_runs_iteration():
    def optimizer():
        return torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)

    def multistep():
        return MultiStepRestartLR(optimizer(), milestones=[5, 9], gamma=0.5)

    for saved, asked, position in (
        (multistep(), PlateauSchedule(optimizer()), 'iteration'),
        (PlateauSchedule(optimizer()), multistep(), 'last_epoch'),
    ):
        model = BaseModel({'num_gpu': 0, 'is_train': True})
        model.schedulers = [asked]
        model.resume_training({'iter': 7, 'epoch': 0, 'optimizers': [], 'schedulers': [saved.state_dict()]})
        assert getattr(asked, position) == 7
    asked.step()
    assert asked.get_last_lr() == [5e-4]  # milestone 5 is behind iteration 8, milestone 9 is not
