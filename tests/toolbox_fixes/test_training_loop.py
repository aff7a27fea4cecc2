"""The trainer between two iterations: stopping, and validations a run still owes."""

import contextlib
import importlib
import os
import re
import signal
import time

import pytest
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel

from pdan_plugin.training import interruption
from pdan_plugin.training.interruption import RunStopped, stop_requested


@pytest.fixture
def signalled(monkeypatch):
    """at(iteration, number): this process gets the signal while it trains the iteration."""

    def at(iteration, number):
        optimize = SRModel.optimize_parameters

        def optimize_parameters(model, current_iter):
            if current_iter == iteration:
                os.kill(os.getpid(), number)
            optimize(model, current_iter)

        monkeypatch.setattr(SRModel, 'optimize_parameters', optimize_parameters)

    # a test run started in the background of a shell has SIGINT ignored, which is respected
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield at
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_has_saved_the_iteration_it_was_in(
    signalled, sr_options, train_here, tmp_path, capfd, number, status
):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    signalled(2, number)
    with pytest.raises(RunStopped) as stopped:
        train_here(sr_options())
    folder = tmp_path / 'experiments' / 'small'
    assert (stopped.value.iteration, stopped.value.signal, stopped.value.code) == (2, number, status)
    assert stopped.value.state == str(folder / 'training_states' / '2.state')
    assert sorted(path.name for path in folder.rglob('*.*') if path.suffix in ('.pth', '.state')) == [
        '2.state', 'net_g_2.pth',
    ]  # fmt: skip
    assert 'saving at the end of this iteration' in capfd.readouterr().err
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert not stop_requested()


def test_a_request_is_answered_though_the_run_ends_before_it_is_heard(capfd, monkeypatch):
    listen = interruption._Listener._listen
    monkeypatch.setattr(interruption._Listener, '_listen', lambda listener: (time.sleep(0.5), listen(listener)))
    with interruption.listening():
        interruption.training_begins()
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.FIRST_ANSWER in capfd.readouterr().err


def test_what_the_trainer_has_just_saved_is_not_saved_again(signalled, sr_options, train_here, monkeypatch):
    saved = []
    save = SRModel.save
    monkeypatch.setattr(SRModel, 'save', lambda model, *at: [saved.append(at), save(model, *at)])
    signalled(3, signal.SIGTERM)
    with pytest.raises(RunStopped) as stopped:
        train_here(sr_options())  # saves every 3 iterations
    assert stopped.value.iteration == 3
    assert saved == [(0, 3)]


def test_a_run_stopped_before_it_trained_saves_nothing(signalled, sr_options, train_here, tmp_path, monkeypatch):
    train = importlib.import_module('basicsr.train')
    monkeypatch.setattr(train, 'build_model', lambda opt: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(RunStopped, match='nothing to save') as stopped:
        train_here(sr_options())
    assert (stopped.value.iteration, stopped.value.code) == (None, 143)
    assert not list(tmp_path.rglob('*.state'))


def test_a_run_asked_in_its_last_iteration_ends_whole_and_says_so(signalled, sr_options, train_here, tmp_path):
    signalled(5, signal.SIGTERM)
    with pytest.raises(RunStopped) as stopped:
        train_here(sr_options(train__total_iter=5))
    assert stopped.value.iteration == 5
    folder = tmp_path / 'experiments' / 'small'
    assert (folder / 'training_states' / '5.state').is_file()
    assert (folder / 'models' / 'net_g_latest.pth').is_file()


@pytest.mark.parametrize('is_killed', [False, True], ids=['its word', 'its end'])
def test_the_launcher_is_heard(sr_options, train_here, monkeypatch, is_killed):
    with contextlib.ExitStack() as launcher:
        folder = launcher.enter_context(interruption.launcher_folder())
        monkeypatch.setenv(interruption.LAUNCHER_FOLDER, str(folder))
        optimize = SRModel.optimize_parameters

        def stopped_in_the_second(model, number):
            if number == 2 and is_killed:
                launcher.close()
                folder.mkdir()  # which a killed launcher does not remove
            elif number == 2:
                interruption.ask_to_stop(folder)
            optimize(model, number)

        monkeypatch.setattr(SRModel, 'optimize_parameters', stopped_in_the_second)
        with pytest.raises(RunStopped) as stopped:
            train_here(sr_options())
        assert (stopped.value.iteration, stopped.value.by_launcher) == (2, True)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()


def test_the_published_trainer_dies_of_the_signal(sr_options, warm_python, tmp_path):
    """What the fix mends, in a process of its own."""
    script = """
import importlib, os, signal
import pdan_plugin
from basicsr.models.sr_model import SRModel
train = importlib.import_module('basicsr.train')
SRModel.optimize_parameters = lambda model, number: os.kill(os.getpid(), signal.SIGTERM)
with pdan_plugin.toolbox_fixes.stock_toolbox():
    train.train_pipeline(os.getcwd())
"""
    assert warm_python(script, '-opt', sr_options()).returncode == -signal.SIGTERM
    assert not list(tmp_path.rglob('*.state'))


def _validations(folder):
    """The iterations before which the last run of the folder validated, by its log."""
    log = sorted(folder.glob('train_*.log'), key=os.path.getmtime)[-1].read_text()
    return re.findall(r'Validation of iteration (\d+) on (\w+)', log)


def test_a_validation_not_known_to_be_finished_is_made_up(sr_options, train_here, tmp_path, monkeypatch):
    validated = []
    monkeypatch.setattr(BaseModel, 'validation', lambda model, loader, iteration, *rest: validated.append(iteration))
    train_here(sr_options(val__val_freq=3, train__total_iter=4))
    folder = tmp_path / 'experiments' / 'small'
    assert _validations(folder) == []
    validated.clear()
    train_here(tmp_path / 'small.yml', '--auto_resume', '--force_yml', 'train:total_iter=5')
    assert _validations(folder) == [('3', 'whole')]
    assert validated[0] == 3


def test_a_validation_the_history_has_is_not_made_again(sr_options, train_here, tmp_path):
    train_here(sr_options(val__val_freq=3, train__total_iter=4, model_type='RestorationModel'))
    folder = tmp_path / 'experiments' / 'small'
    train_here(tmp_path / 'small.yml', '--auto_resume', '--force_yml', 'train:total_iter=5')
    assert _validations(folder) == []
    history = (folder / 'history.jsonl').read_text().splitlines()
    (folder / 'history.jsonl').write_text('\n'.join(line for line in history if '"iter": 3, "dataset"' not in line))
    train_here(tmp_path / 'small.yml', '--auto_resume', '--force_yml', 'train:total_iter=5')
    assert _validations(folder) == [('3', 'whole')]
