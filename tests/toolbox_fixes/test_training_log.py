"""What a run writes while it trains: lines of the form people's scripts know, tensorboard, history, and a bar."""

import fcntl
import logging
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest
import yaml
from basicsr.utils import logger as toolbox_logger
from warm_processes import WarmPython

from pdan_plugin.training.history import TrainingLine, read_history

REPOSITORY = Path(__file__).parents[2]
LINE = re.compile(
    r'\[small\.\.\]\[epoch: {2}\d, iter: {7}(?P<iteration>\d), lr:\((?P<rate>\S+),\)\] '
    r'\[eta: (?P<eta>\d+:\d\d:\d\d), time \(data\): (?P<time>\d+\.\d{3}) \((?P<data>\d+\.\d{3})\)\] '
    r'\[(?P<speed>[\d.]+) samples/s, data wait: (?P<wait>\d+)%, peak memory: [\d.]+ [MG]iB\] '
    r'l_pix: (?P<loss>\d\.\d{4}e[-+]\d\d) $'
)


def _lines(folder):
    """The matches of every log line of an iteration, in all logs of the run."""
    text = ''.join(path.read_text() for path in sorted((folder / 'experiments' / 'small').glob('*.log')))
    lines = [line.partition('INFO: ')[2] for line in text.splitlines() if 'l_pix: ' in line]
    matches = [LINE.match(line) for line in lines]
    assert None not in matches, lines
    return matches


def test_a_line_keeps_its_form_and_tells_pace_and_memory(train_here, sr_options, tmp_path):
    train_here(sr_options(logger__use_tb_logger=True, train__total_iter=3))
    lines = _lines(tmp_path)
    assert [int(line['iteration']) for line in lines] == [1, 2, 3]
    assert lines[-1]['eta'] == '0:00:00'
    for line in lines:
        assert float(line['data']) <= float(line['time'])
        assert 0 <= int(line['wait']) <= 100
    records = read_history(tmp_path / 'experiments' / 'small' / 'history.jsonl')
    assert [f'{record.losses["l_pix"]:.4e}' for record in records] == [line['loss'] for line in lines]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / 'tb_logger' / 'small')).Reload()
    steps = {'losses/l_pix', 'lr', 'speed/samples_per_second', 'speed/data_wait_share', 'memory/peak_gib'}
    assert set(events.Tags()['scalars']) == steps | {'metrics/whole/psnr'}
    for tag in steps:
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3]
    assert [event.value for event in events.Scalars('lr')] == pytest.approx([1e-3] * 3)


def test_two_validation_sets_are_validated_without_a_warning(train_here, sr_options, tmp_path):
    path = sr_options(train__total_iter=2, val__val_freq=1)
    options = yaml.safe_load(path.read_text())
    options['datasets']['val_2'] = options['datasets']['val'] | {'name': 'again'}
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    train_here(path)
    (log,) = (tmp_path / 'experiments' / 'small').glob('*.log')
    text = log.read_text()
    assert text.count('Validation whole') == text.count('Validation again') == 3
    assert 'WARNING' not in text


def test_a_resumed_run_has_each_iteration_once_in_its_history(train_here, sr_options, tmp_path):
    train_here(sr_options())
    state = tmp_path / 'experiments' / 'small' / 'training_states' / '3.state'
    train_here(sr_options(path__resume_state=str(state)))
    records = read_history(tmp_path / 'experiments' / 'small' / 'history.jsonl')
    assert [(type(record), record.iteration) for record in records] == [(TrainingLine, each) for each in range(1, 7)]
    assert [int(line['iteration']) for line in _lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 4, 5, 6]


def test_the_stock_eta_is_negative_at_the_last_iteration(stock, sr_options, monkeypatch, caplog):
    opt = {'name': 'small', 'logger': {'print_freq': 1, 'use_tb_logger': False}, 'train': {'total_iter': 20}}
    logger = logging.getLogger('basicsr_test_training_log')
    with stock():
        monkeypatch.setattr(toolbox_logger, 'get_root_logger', lambda: logger)
        log = toolbox_logger.MessageLogger(opt, 10)
        log.start_time -= 100
        with caplog.at_level(logging.INFO, logger.name):
            log({'epoch': 0, 'iter': 20, 'lrs': [1.0], 'time': 1.0, 'data_time': 0.5})
    assert '[eta: -1 day, ' in caplog.text


def test_on_a_terminal_a_bar_follows_the_run(sr_options, tmp_path):
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack('HHHH', 30, 150, 0, 0))
    words = ['-m', 'pdan_plugin', 'train', '-opt', sr_options(), '--force_yml', 'val:val_freq=3']
    with open(os.devnull, 'wb') as nowhere:
        process = WarmPython(*words, cwd=tmp_path, stdout=nowhere.fileno(), stderr=writing)
    os.close(writing)
    text = b''
    while True:
        try:
            text += os.read(reading, 1 << 16)
        except OSError:  # the terminal has no other end any more
            break
    process.wait(60)
    os.close(reading)
    text = text.decode()
    assert process.returncode == 0, text
    bars = [drawn for drawn in re.split('[\r\n]', text) if re.match(r'small +\d+%\|.*\| \d/6 ', drawn)]
    assert '6/6 ETA 00:00, ' in bars[-1]
    assert 'samples/s, data ' in bars[-1]
    assert 'l_pix ' in bars[-1]
    for iteration in range(1, 7):  # each line by itself, ended
        line = rf'\r[\d-]+ [\d:,]+ INFO: \[small\.\.\]\[epoch: {{2}}\d, iter: {{7}}{iteration}, [^\r\n]*l_pix: \S+ \r\n'
        assert len(re.findall(line, text)) == 1
    assert 'Peak memory: ' in text.rpartition('6/6')[2]
