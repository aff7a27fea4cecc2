"""The training benchmark: that both sides are what they are called, and that the figures are told as they are."""

import json

import pytest
import torch
from basicsr.models.sr_model import SRModel

from benchmarks import loss_curves, step_profile, training
from benchmarks.contenders import SETTINGS, ours, pdan, rcan, stock
from benchmarks.loss_curves import OTHER_START, REFERENCE, RUNS, TRIED, compare_curves, judge, train_run
from benchmarks.pictures import training_batch
from benchmarks.timing import machine
from pdan_plugin.errors import RequestError
from pdan_plugin.models.dual_supervision_model import DualSupervisionModel
from pdan_plugin.models.restoration_model import RestorationModel

CPU = torch.device('cpu')
QUICK = ('fp32', 'bf16+channels_last')  # compiling takes longer than a test may


def small(size: int = 1) -> dict:
    """A batch of smaller crops than the benchmark's."""
    batch = training_batch(size, seed=0, number=0)
    return {**batch, 'lq': batch['lq'][..., :16, :16], 'gt': batch['gt'][..., :64, :64],
            'lq_sharp': batch['lq_sharp'][..., :16, :16]}  # fmt: skip


def test_batches_are_photographs_and_come_again():
    batch, again = (training_batch(2, seed=3, number=5) for _ in range(2))
    assert batch['lq'].shape == (2, 3, 64, 64)
    assert batch['gt'].shape == (2, 3, 256, 256)
    assert torch.equal(batch['gt'], again['gt'])
    assert not torch.equal(batch['gt'], training_batch(2, seed=3, number=6)['gt'])
    assert (batch['gt'].mean(dim=(2, 3)) - batch['lq'].mean(dim=(2, 3))).abs().max() < 0.005


def test_the_stock_side_is_the_published_model_in_the_published_toolbox():
    side = stock(rcan(16), CPU)
    assert type(side.model) is SRModel
    mended = SRModel.model_ema
    with side.context():
        assert SRModel.model_ema is not mended
        side.step(1, small())
    assert SRModel.model_ema is mended


@pytest.mark.parametrize('setting', [name for name in SETTINGS if 'compile' not in name])
def test_both_sides_begin_at_the_same_weights_and_learn_the_same(setting):
    sides = {'stock': stock(rcan(16), CPU), 'ours': ours(rcan(16), setting, CPU)}
    assert type(sides['ours'].model) is RestorationModel
    before = [side.model.net_g.state_dict() for side in sides.values()]
    assert all(torch.equal(before[0][name], before[1][name]) for name in before[0])
    losses = []
    for side in sides.values():
        with side.context():
            for iteration in (1, 2):
                side.step(iteration, small())
            losses.append(side.model.get_current_log()['l_pix'])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5 if setting in ('fp32', 'channels_last') else 1e-2)


def test_settings_reach_the_model():
    model = ours(rcan(16), 'bf16+channels_last+compile', CPU).model
    assert model.precision == 'bf16'
    assert model.memory_format is torch.channels_last
    compiled = [type(each).__name__ for each in model.net_g.modules() if each._compiled_call_impl is not None]
    assert compiled == ['RCAB'] * 8


def test_a_pdan_with_its_branch_is_trained_with_it():
    side = ours(pdan(16, deblur_branch=True), 'fp32', CPU)
    assert type(side.model) is DualSupervisionModel
    side.step(1, small())
    assert 'l_deblur' in side.model.get_current_log()


def test_a_comparison_tells_every_setting_and_the_best():
    compared = training.compare_at(16, 1, CPU, QUICK, batch_size=1)
    names = {training.STOCK, *QUICK}
    for key in ('seconds', 'samples_per_second', 'step_memory', 'times'):
        assert set(compared[key]) == names
        assert set(compared['pdan'][key]) == {'RCAN', 'PDAN', 'PDAN with deblurring branch'}
    assert compared['ratio'] == max(compared['ratios'].values())
    assert compared['ratios'][compared['best_setting']] == compared['ratio']
    if machine(CPU)['bf16_instructions']:  # without them each convolution takes work space for computing otherwise
        assert compared['step_memory']['bf16+channels_last'] < compared['step_memory'][training.STOCK]

    result = {'widths': {'16': compared}, 'full_network': None, 'ratio': compared['ratio'], 'batch': [1, 3, 64, 64],
              'pdan_to_rcan': compared['pdan']['to_rcan']}  # fmt: skip
    assert json.loads(json.dumps(result)) == result
    table = training.table(result)
    assert all(name in table for name in names)
    assert table.count('not yet measured') == 5  # no card here


def test_a_profile_accounts_for_a_step():
    side = ours(pdan(16), 'bf16+channels_last', CPU)
    recorded = step_profile.record(side, side.candidate([small()]).call, CPU)
    groups = recorded['groups']
    assert sum(groups.values()) == pytest.approx(recorded['profiled_seconds'])
    for name in step_profile.GROUPS:
        assert groups[name] > 0 or name == step_profile.COMPILED
    assert side.model.model_ema.__func__ is RestorationModel.model_ema  # as it was


def test_curves_go_on_from_their_state_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_curves, '_BATCH', 1)
    for run in RUNS[:2]:
        whole, parts = tmp_path / f'{run.seed}{run.is_stock}', tmp_path / f'{run.seed}{run.is_stock}_parts'
        whole.mkdir()
        parts.mkdir()
        expected = train_run(run, whole, 4, 16, CPU, state_every=10)
        assert train_run(run, parts, 2, 16, CPU, state_every=2) == expected[:2]
        assert train_run(run, parts, 4, 16, CPU, state_every=2) == expected
    with pytest.raises(RequestError, match='state of another run'):
        train_run(RUNS[1], parts, 4, 32, CPU, state_every=2)


def test_curves_are_drawn_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_curves, '_BATCH', 1)
    result = compare_curves(tmp_path / 'curves.png', 10, 16, CPU, {'processor': 'a name'})
    assert sorted(path.name for path in tmp_path.iterdir()) == ['curves.json', 'curves.png']
    kept = json.loads((tmp_path / 'curves.json').read_text())
    assert kept['losses'] == result['losses']
    assert kept['machine'] == {'processor': 'a name'}
    assert 'Mean L1 loss of the last 10 of 10' in loss_curves.table(result)
    with pytest.raises(RequestError, match='ends in one of'):
        compare_curves(tmp_path / 'curves.docx', 10, 16, CPU, {})


def test_a_difference_is_judged_by_that_of_two_starts():
    losses = {REFERENCE: [1.0] * 100, TRIED: [1.01] * 100, OTHER_START: [0.98] * 100}
    judged = judge(losses)
    assert judged['difference'] == pytest.approx(0.01)
    assert judged['noise'] == pytest.approx(0.02)
    assert judged['within_noise']
    assert not judge({**losses, TRIED: [1.03] * 100})['within_noise']
