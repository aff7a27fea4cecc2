"""Pace, time left and the bar of a run, by a clock of the test's own."""

import fcntl
import logging
import os
import pty
import struct
import sys
import termios
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pdan_plugin.machine.memory import peak_memory, peak_memory_text
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.training import progress
from pdan_plugin.training.progress import Pace, RunProgress, following_a_run


@pytest.fixture
def clock(monkeypatch):
    """clock.advance(seconds)"""

    class Clock(SimpleNamespace):
        def advance(self, seconds):
            self.now += seconds

    clock = Clock(now=1000.0)
    monkeypatch.setattr(progress, 'time', SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def _iterate(run, clock, iterations, *, waiting=1.0, training=3.0, set_aside=0.0):
    for iteration in iterations:
        with run.waiting:
            clock.advance(waiting)
        run.begun(iteration)
        clock.advance(training)
        with run.set_aside:
            clock.advance(set_aside)
        run.done()


def test_pace_leaves_out_the_first_iteration_and_what_is_no_training(clock):
    run = RunProgress('run', 0, 100, samples_per_iteration=8)
    _iterate(run, clock, [1], waiting=50.0, training=500.0)
    _iterate(run, clock, range(2, 11), set_aside=60.0)
    pace = run.pace_of_line()
    assert pace == Pace(iteration_seconds=4.0, waiting_seconds=1.0)
    assert pace.waiting_share == 0.25
    assert run.samples_per_second(pace) == 2.0


def test_each_line_has_the_pace_of_its_own_iterations(clock):
    run = RunProgress('run', 0, 100, samples_per_iteration=8)
    for training in (7.0, 1.0, 3.0):
        _iterate(run, clock, [run.iteration + 1], waiting=0.0, training=training)
        assert run.pace_of_line() == Pace(training, 0.0)
    assert run.pace_of_line() is None


@pytest.mark.parametrize('resumed_at', [0, 60])
def test_time_left_is_reckoned_from_this_process(clock, resumed_at):
    run = RunProgress('run', resumed_at, 100, samples_per_iteration=1)
    _iterate(run, clock, [resumed_at + 1], training=99.0)
    assert run.seconds_left() == 100 * (100 - resumed_at - 1)  # nothing better is known yet
    _iterate(run, clock, range(resumed_at + 2, resumed_at + 12), set_aside=6.0)
    assert run.seconds_left() == 10 * (100 - resumed_at - 11)
    _iterate(run, clock, range(resumed_at + 12, 101))
    assert run.seconds_left() == 0


def test_a_watch_counts_blocks_within_each_other_once(clock):
    watch = progress.Stopwatch()
    with watch:
        clock.advance(1)
        with watch:
            clock.advance(2)
        assert watch.seconds == 3
    clock.advance(10)
    assert watch.seconds == 3


def test_a_run_is_current_until_it_ends_however_it_ends():
    assert not progress.begin(RunProgress('run', 0, 1, 1))
    run = RunProgress('run', 0, 1, 1)

    def fail():
        with following_a_run():
            assert progress.begin(run)
            assert progress.current() is run
            raise RuntimeError('on the way')

    with pytest.raises(RuntimeError, match='on the way'):
        fail()
    assert progress.current() is None


class Terminal:
    """A terminal of 30 rows."""

    def __init__(self, columns):
        self._reading, writing = pty.openpty()
        os.set_blocking(self._reading, False)
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack('HHHH', 30, columns, 0, 0))
        self.stream = os.fdopen(writing, 'w')

    def written(self):
        text = b''
        while True:
            try:
                text += os.read(self._reading, 1 << 16)
            except BlockingIOError:
                return text.decode()

    def close(self):
        self.stream.close()
        os.close(self._reading)


@pytest.fixture
def terminal(request):
    terminal = Terminal(columns=getattr(request, 'param', 120))
    yield terminal
    terminal.close()


@contextmanager
def _followed_on(terminal, run):
    """A run whose bar is on the terminal, for the time of the block."""
    with pytest.MonkeyPatch.context() as patch, following_a_run():
        patch.setattr(sys, 'stderr', terminal.stream)
        logger = logging.Logger('basicsr of the test')
        logger.addHandler(logging.StreamHandler(terminal.stream))
        assert progress.begin(run)
        run.show_bar(logger)
        yield logger


def _bar_as_drawn_last(text):
    return [drawn for drawn in text.replace('\n', '\r').split('\r') if '|' in drawn][-1].rstrip()


def test_the_bar_tells_how_the_run_gets_on(terminal, clock):
    run = RunProgress('run', 40, 100, samples_per_iteration=8)
    with _followed_on(terminal, run):
        run.show_losses({'l_pix': 0.0123})
        _iterate(run, clock, range(41, 51))
        bar = _bar_as_drawn_last(terminal.written())
    assert bar.startswith('run  50%|')
    assert '| 50/100 ETA 03:20, 2.00 samples/s, data 25%, ' in bar
    assert bar.endswith('iB, l_pix 1.23e-02')


@pytest.mark.parametrize(('terminal', 'shows'), [(120, True), (0, False)], indirect=['terminal'])
def test_a_bar_is_for_a_terminal_with_a_width(terminal, shows, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', terminal.stream)
    assert progress.can_show_a_bar() is shows


def test_no_bar_goes_into_a_file(tmp_path, monkeypatch):
    with (tmp_path / 'log').open('w') as file:
        monkeypatch.setattr(sys, 'stderr', file)
        assert not progress.can_show_a_bar()


@pytest.mark.parametrize('terminal', [56], indirect=True)
def test_a_narrow_terminal_shows_whole_figures(terminal, clock):
    run = RunProgress('run', 40, 100, samples_per_iteration=8)
    with _followed_on(terminal, run):
        _iterate(run, clock, range(41, 51))
        bar = _bar_as_drawn_last(terminal.written())
    assert len(bar) <= 56
    assert bar.endswith('| 50/100 ETA 03:20, 2.00 samples/s')


def test_log_lines_print_whole_above_the_bar(terminal, clock):
    run = RunProgress('run', 0, 3, samples_per_iteration=8)
    with _followed_on(terminal, run) as logger:
        for iteration in (1, 2, 3):
            _iterate(run, clock, [iteration])
            logger.info(f'line of iteration {iteration}')
    text = terminal.written()
    for iteration in (1, 2, 3):
        assert f'\rline of iteration {iteration}\r\n' in text
    assert '3/3' in _bar_as_drawn_last(text)
    assert text.endswith('\r\n')
    assert logger.handlers[0].stream is terminal.stream


def test_a_failure_leaves_the_bar_where_the_run_was(terminal, clock):
    def fail():
        run = RunProgress('run', 0, 3, samples_per_iteration=8)
        with _followed_on(terminal, run):
            _iterate(run, clock, [1])
            run.begun(2)
            raise RuntimeError('on the way')

    with pytest.raises(RuntimeError, match='on the way'):
        fail()
    text = terminal.written()
    assert '1/3' in _bar_as_drawn_last(text)
    assert text.endswith('\r\n')


def test_the_peak_of_this_process_is_told():
    held = bytearray(b'1') * (64 << 20)
    peak = peak_memory()
    assert peak is not None
    assert peak.size > len(held)
    assert peak_memory_text() == f'Peak memory: {memory_in_words(peak_memory().size)} ({peak.where})'
