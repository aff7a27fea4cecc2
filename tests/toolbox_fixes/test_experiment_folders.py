"""Which state a run goes on from, and which folders it makes."""

import importlib
import logging
import os

import pytest
import torch
from basicsr.utils import make_exp_dirs

from pdan_plugin.errors import RequestError

train = importlib.import_module('basicsr.train')


@pytest.fixture
def experiment(tmp_path):
    """make(*iterations) -> options of an experiment whose folder holds those states and networks."""

    def make(*iterations, auto_resume=True, **path):
        root = tmp_path / 'root'
        folder = root / 'experiments' / 'small'
        folders = {name: str(folder / name) for name in ('models', 'training_states', 'visualization')}
        for iteration in iterations:
            for name in folders.values():
                os.makedirs(name, exist_ok=True)
            state = {'epoch': 0, 'iter': iteration, 'optimizers': [], 'schedulers': []}
            torch.save(state, folder / 'training_states' / f'{iteration}.state')
            for label in ('g', 'd'):
                torch.save({'params': {}}, folder / 'models' / f'net_{label}_{iteration}.pth')
        return {
            'name': 'small', 'rank': 0, 'root_path': str(root), 'auto_resume': auto_resume, 'is_train': True,
            'network_g': {}, 'network_d': {}, 'network_identity': {},
            'path': {'experiments_root': str(folder), 'log': str(folder)} | folders | path,
        }  # fmt: skip

    return make


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    return caplog


def test_resumes_on_a_cpu_from_where_the_run_saves(stock, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    opt = experiment(3, 6, 12)
    with stock():
        monkeypatch.chdir(tmp_path)
        assert train.load_resume_state(opt) is None  # looked under the working folder
        if not torch.version.cuda or torch.cuda.device_count() == 0:
            monkeypatch.chdir(opt['root_path'])
            with pytest.raises((AssertionError, RuntimeError)):
                train.load_resume_state(opt)
    monkeypatch.chdir(tmp_path)
    opt = experiment(3, 6, 12, param_key_g='params_ema', ignore_resume_networks=['network_identity'])
    assert train.load_resume_state(opt)['iter'] == 12
    assert opt['path']['pretrain_network_g'].endswith('net_g_12.pth')
    assert opt['path']['param_key_g'] == 'params'
    assert 'pretrain_network_identity' not in opt['path']


@pytest.mark.parametrize(
    'damage',
    [
        lambda folder: os.truncate(folder / 'training_states' / '12.state', 100),
        lambda folder: (folder / 'training_states' / '12.state').write_bytes(b''),
        lambda folder: torch.save({'params': {}}, folder / 'training_states' / '12.state'),
        lambda folder: os.remove(folder / 'models' / 'net_d_12.pth'),
        lambda folder: os.truncate(folder / 'models' / 'net_g_12.pth', 100),
    ],
)
def test_a_state_that_is_not_whole_is_passed_over_by_name(experiment, said, tmp_path, damage):
    opt = experiment(3, 6, 12)
    damage(tmp_path / 'root' / 'experiments' / 'small')
    (tmp_path / 'root' / 'experiments' / 'small' / 'training_states' / '.13.state.partial').write_bytes(b'')
    assert train.load_resume_state(opt)['iter'] == 6
    assert '--auto_resume skips' in said.text
    assert '12.state' in said.text
    assert '6.state' not in said.text


def test_a_network_the_model_never_saves_is_not_missed(experiment, tmp_path):
    opt = experiment(3)
    os.remove(tmp_path / 'root' / 'experiments' / 'small' / 'models' / 'net_d_3.pth')
    assert train.load_resume_state(opt)['iter'] == 3


@pytest.mark.parametrize('damage', [os.remove, lambda path: os.truncate(path, 100)], ids=['missing', 'cut short'])
def test_a_network_that_no_option_names_is_asked_for_too(experiment, said, tmp_path, damage):
    """As DRN's dual networks."""
    opt = experiment(3, 6, 12)
    models = tmp_path / 'root' / 'experiments' / 'small' / 'models'
    for iteration in (3, 6, 12):
        torch.save({'params': {}}, models / f'net_dual_x1_{iteration}.pth')
    torch.save({'params': {}}, models / 'net_now_and_then_3.pth')
    damage(models / 'net_dual_x1_12.pth')
    assert train.load_resume_state(opt)['iter'] == 6
    assert 'net_dual_x1_12.pth' in said.text


def test_beginning_anew_beside_an_old_folder_is_said(experiment, said):
    opt = experiment(3)
    os.remove(os.path.join(opt['path']['training_states'], '3.state'))
    assert train.load_resume_state(opt) is None
    assert 'training starts from the beginning' in said.text
    assert '_archived_' in said.text
    make_exp_dirs(opt)
    archived = [name for name in os.listdir(os.path.dirname(opt['path']['experiments_root'])) if '_archived_' in name]
    assert len(archived) == 1


def test_a_first_run_says_nothing(experiment, said):
    assert train.load_resume_state(experiment()) is None
    assert train.load_resume_state(experiment(auto_resume=False)) is None
    assert not said.records


def test_a_restarted_worker_goes_on_without_being_told(experiment, monkeypatch):
    """torchrun tells a worker by this variable how often its group was started anew."""
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '0')
    assert train.load_resume_state(experiment(3, auto_resume=False)) is None
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '2')
    opt = experiment(3, 6, auto_resume=False)
    assert train.load_resume_state(opt)['iter'] == 6


def test_the_history_goes_back_to_the_state(experiment):
    opt = experiment(3, 6)
    lines = [f'{{"iter": {number}, "epoch": 0, "lr": [0.1], "losses": {{}}}}\n' for number in (3, 6, 7)]
    history = os.path.join(opt['path']['experiments_root'], 'history.jsonl')
    with open(history, 'w') as file:
        file.writelines(lines)
    train.load_resume_state(opt)
    with open(history) as file:
        assert file.readlines() == lines[:2]


@pytest.mark.parametrize('keep', [0, -1, 1.5, True, 'all'])
def test_keeping_no_checkpoint_is_refused(experiment, keep):
    opt = experiment(3)
    opt['logger'] = {'keep_checkpoints': keep}
    with pytest.raises(RequestError, match=r'keep_checkpoints: .* 1 or more'):
        train.load_resume_state(opt)


def test_a_run_that_is_past_its_end_is_not_gone_on_with(experiment):
    opt = experiment(3, 6)
    opt['train'] = {'total_iter': 6}
    assert train.load_resume_state(opt)['iter'] == 6
    opt['train'] = {'total_iter': 5}
    with pytest.raises(RequestError, match='total_iter: 5 is less than the iteration of the state to resume from, 6'):
        train.load_resume_state(opt)


def test_a_given_state_is_used_where_there_is_no_newer_one(experiment, tmp_path):
    opt = experiment(3)
    given = os.path.join(opt['path']['training_states'], '3.state')
    for auto_resume in (False, True):
        assert train.load_resume_state(experiment(auto_resume=auto_resume, resume_state=given))['iter'] == 3
    os.rename(given, tmp_path / 'kept.state')
    assert train.load_resume_state(experiment(resume_state=str(tmp_path / 'kept.state')))['iter'] == 3


def test_what_a_run_leaves_behind_when_it_goes_back_is_not_its_newest(experiment, said):
    opt = experiment(3, 6, 12, auto_resume=False)
    states = opt['path']['training_states']
    opt['path']['resume_state'] = os.path.join(states, '6.state')
    assert train.load_resume_state(opt)['iter'] == 6
    assert sorted(os.listdir(states)) == ['12.state.set_aside', '3.state', '6.state']
    assert '12.state is now 12.state.set_aside' in said.text
    assert train.load_resume_state(experiment())['iter'] == 6


@pytest.mark.parametrize('key', [None, 'state_dict', 'params_ema'])
def test_a_checkpoint_has_its_own_key(experiment, key):
    """The option tells of the weights the run began with."""
    opt = experiment(3, param_key_g=key, param_key_d=key, ignore_resume_networks=['network_d'])
    train.load_resume_state(opt)
    assert opt['path']['param_key_g'] == 'params'
    assert opt['path']['param_key_d'] in (key, 'params')  # the toolbox takes params_ema for one of a checkpoint


def test_a_given_state_that_cannot_be_used_is_named(experiment, tmp_path):
    def load(path):
        return train.load_resume_state(experiment(auto_resume=False, resume_state=str(path)))

    with pytest.raises(RequestError, match=r'resume_state: .*none\.state: no such file'):
        load(tmp_path / 'none.state')
    (tmp_path / 'half.state').write_bytes(b'PK')
    with pytest.raises(RequestError, match=r'half\.state: not a complete training state'):
        load(tmp_path / 'half.state')
    torch.save({'epoch': 0, 'iter': 9, 'optimizers': [], 'schedulers': []}, tmp_path / '9.state')
    with pytest.raises(RequestError, match=r'its networks are missing: .*models has no net_\*_9\.pth'):
        load(tmp_path / '9.state')


def test_unknown_path_keys_do_not_become_folders(stock, experiment, tmp_path):
    with stock():
        from basicsr.utils import misc

        misc.make_exp_dirs(experiment(pretrain_netwrok_g=str(tmp_path / 'weights.pth')))
        assert (tmp_path / 'weights.pth').is_dir()
    opt = experiment(pretrain_netwrok_g=str(tmp_path / 'other.pth'))
    make_exp_dirs(opt)
    assert not (tmp_path / 'other.pth').exists()
    assert sorted(os.listdir(opt['path']['experiments_root'])) == ['models', 'training_states', 'visualization']
