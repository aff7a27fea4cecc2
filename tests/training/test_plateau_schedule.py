"""PlateauSchedule: when the learning rate falls, and what survives a resume."""

from itertools import pairwise

import pytest
import torch

from pdan_plugin.training.plateau_schedule import PlateauSchedule


def make(**arguments):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    return PlateauSchedule(optimizer, **{'patience': 10, 'window': 1, 'smoothing': 0.0} | arguments)


def run(schedule, losses):
    """The learning rate each iteration is done with."""
    rates = []
    for loss in losses:
        schedule.step()
        rates.append(schedule.optimizer.param_groups[0]['lr'])
        schedule.observe(torch.tensor(float(loss)))
    return rates


def test_falling_loss_keeps_the_rate():
    assert set(run(make(), [1 / (1 + i) for i in range(50)])) == {1e-3}


def test_rate_halves_after_patience_iterations_without_a_better_loss():
    rates = run(make(), [1.0] * 40)
    falls = [i for i in range(1, 40) if rates[i] < rates[i - 1]]
    assert [later - earlier for earlier, later in pairwise(falls)] == [10] * (len(falls) - 1)
    assert rates[falls[0]] == 5e-4
    assert falls[0] == 11  # the first loss is seen before iteration 1; ten more without a better one


def test_an_improvement_below_the_threshold_does_not_count():
    assert min(run(make(threshold=0.1), [1 - 0.001 * i for i in range(40)])) < 1e-3
    assert set(run(make(threshold=1e-4), [1 - 0.001 * i for i in range(40)])) == {1e-3}


def test_noise_is_averaged_out():
    torch.manual_seed(0)
    noisy_fall = [2 - 0.005 * i + 0.5 * torch.randn(()).item() for i in range(300)]
    assert min(run(make(patience=60), noisy_fall)) < 1e-3
    assert set(run(make(patience=60, window=10, smoothing=0.5), noisy_fall)) == {1e-3}


def test_one_bad_number_does_not_stay():
    losses = [1 / (1 + i) for i in range(100)]
    losses[20] = float('nan')
    assert set(run(make(smoothing=0.9), losses)) == {1e-3}


def test_a_negative_loss_can_stagnate():
    assert min(run(make(), [-1.0] * 40)) < 1e-3
    assert set(run(make(), [-1.0 - i for i in range(40)])) == {1e-3}


def test_minimum():
    assert run(make(min_lr=3e-4), [1.0] * 60)[-1] == 3e-4


def test_resume_continues_to_the_same_rates():
    losses = [1.0 + 0.01 * (i % 7) for i in range(200)]
    whole = run(make(window=4, smoothing=0.5), losses)
    first = make(window=4, smoothing=0.5)
    head = run(first, losses[:83])
    second = make(window=4, smoothing=0.5)
    second.load_state_dict(first.state_dict())
    assert head + run(second, losses[83:]) == whole


def test_the_option_files_factor_wins_over_the_states():
    first = make(factor=0.5)
    run(first, [1.0] * 15)
    second = make(factor=0.1)
    second.load_state_dict(first.state_dict())
    assert run(second, [1.0])[0] == pytest.approx(1e-4)


def test_state_is_plain_numbers(tmp_path):
    schedule = make()
    run(schedule, [1.0, 0.5])
    torch.save(schedule.state_dict(), tmp_path / 'state')
    assert torch.load(tmp_path / 'state', weights_only=True) == schedule.state_dict()


@pytest.mark.parametrize(
    'arguments',
    [{'factor': 1.0}, {'patience': 0}, {'window': 0}, {'threshold': -1.0}, {'min_lr': -1.0}, {'smoothing': 1.0}],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make(**arguments)


def test_a_device_without_float64_computes_the_same_rates(monkeypatch):
    """A mock of Apple's GPU: the losses stay on a device that refuses float64."""

    class OnMps(torch.Tensor):
        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")

        def cpu(self):
            return torch.Tensor(self).as_subclass(torch.Tensor)

    losses = [1.0 + 0.01 * (i % 7) for i in range(120)]
    expected = run(make(window=4, smoothing=0.5), losses)
    monkeypatch.setattr('pdan_plugin.training.plateau_schedule.has_float64', lambda device: False)

    def rates(schedule, losses):
        found = []
        for loss in losses:
            schedule.step()
            found.append(schedule.optimizer.param_groups[0]['lr'])
            schedule.observe(torch.tensor(loss).as_subclass(OnMps))
        return found

    first, second = make(window=4, smoothing=0.5), make(window=4, smoothing=0.5)
    found = rates(first, losses[:83])  # in the middle of a window
    second.load_state_dict(first.state_dict())
    assert found + rates(second, losses[83:]) == expected
