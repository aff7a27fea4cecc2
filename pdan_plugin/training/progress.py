"""Progress of a training run: its pace, its waiting times and its remaining time, with a bar on a terminal."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from pdan_plugin.machine.memory import peak_memory

_SECONDS_BETWEEN_DRAWINGS = 0.25
# the bar shows the pace over this many drawings: 15 seconds, or 60 iterations if those are slower than a drawing
_DRAWINGS_REMEMBERED = 60
_BAR_FORMAT = '{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {figures}'


class Stopwatch:
    """Adds up the seconds spent inside `with` blocks; of nested blocks only the outermost counts."""

    def __init__(self) -> None:
        self._total = self._since = 0.0
        self._depth = 0

    def __enter__(self) -> Stopwatch:
        if self._depth == 0:
            self._since = time.perf_counter()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._total += time.perf_counter() - self._since

    @property
    def seconds(self) -> float:
        """Total so far, including a block that is still open."""
        return self._total + (time.perf_counter() - self._since if self._depth else 0.0)


@dataclass(frozen=True)
class Pace:
    """Mean times of some training iterations, without validations and saving.

    Attributes:
        iteration_seconds: Time of one iteration, including the wait for its batch.
        waiting_seconds: The time in it that the trainer waited for the batch. A GPU may still be computing then.
    """

    iteration_seconds: float
    waiting_seconds: float

    @property
    def waiting_share(self) -> float:
        """In [0, 1]."""
        return self.waiting_seconds / self.iteration_seconds if self.iteration_seconds > 0 else 0.0


@dataclass(frozen=True)
class _Moment:
    iteration: int
    time: float
    set_aside: float
    waited: float

    def pace_since(self, earlier: _Moment) -> Pace | None:
        iterations = self.iteration - earlier.iteration
        if iterations <= 0:
            return None
        seconds = self.time - earlier.time - (self.set_aside - earlier.set_aside)
        return Pace(seconds / iterations, (self.waited - earlier.waited) / iterations)


class RunProgress:
    """The progress of one run in this process.

    The trainer calls :meth:`begun` at the start of an iteration and :meth:`done` at its end, enters `waiting` while it
    waits for a batch, and `set_aside` for anything but training. In the first iteration workers start and kernels are
    compiled, so its time counts only until there is a second one.

    Args:
        name: Name of the run.
        start: Iterations done before this process.
        total: Iterations of the whole run.
        samples_per_iteration: Samples of all ranks together.
    """

    def __init__(self, name: str, start: int, total: int, samples_per_iteration: int) -> None:
        self.name, self.total = name, total
        self.samples_per_iteration = samples_per_iteration
        self.iteration = start
        self.waiting, self.set_aside = Stopwatch(), Stopwatch()
        self._begun = start
        self._first = start + 1
        self._origin = self._last_line = self._moment()
        self._after_first: _Moment | None = None
        self._bar: _Bar | None = None

    def begun(self, iteration: int) -> None:
        self._begun = iteration

    def done(self, iteration: int | None = None) -> None:
        """Marks an iteration (by default the last begun) as done. A second call for the same one has no effect."""
        iteration = self._begun if iteration is None else iteration
        if iteration <= self.iteration:
            return
        self.iteration = iteration
        if iteration == self._first:
            self._after_first = self._moment()
        if self._bar is not None:
            self._bar.draw_if_due(self)

    def seconds_left(self) -> float:
        """Estimated from the iterations of this process, including validations and saving; 0 at the end."""
        now, origin = self._moment(), self._without_the_first(self._origin)
        iterations = now.iteration - origin.iteration
        return (now.time - origin.time) / iterations * (self.total - now.iteration) if iterations > 0 else 0.0

    def pace_of_line(self) -> Pace | None:
        """The pace since the last call; None if no iteration was done since."""
        now = self._moment()
        pace = now.pace_since(self._without_the_first(self._last_line))
        if pace is not None:
            self._last_line = now
        return pace

    def samples_per_second(self, pace: Pace) -> float:
        """Samples of all ranks together."""
        return self.samples_per_iteration / pace.iteration_seconds if pace.iteration_seconds > 0 else 0.0

    def show_losses(self, losses: Mapping[str, float]) -> None:
        """Losses for the bar to show from now on."""
        if self._bar is not None:
            self._bar.losses = ' '.join(f'{name} {value:.2e}' for name, value in losses.items())

    def show_bar(self, logger: logging.Logger) -> None:
        """Shows a bar on stderr until :meth:`close`; the logger's console lines are printed above it."""
        self._bar = _Bar(self, logger)

    def close(self, *, finished: bool) -> None:
        """Ends the bar if there is one; its last state stays on the terminal."""
        if finished:
            self.done()
        if self._bar is not None:
            self._bar.close(self)
            self._bar = None

    def _without_the_first(self, since: _Moment) -> _Moment:
        if since is self._origin and self._after_first is not None and self.iteration > self._first:
            return self._after_first
        return since

    def _moment(self) -> _Moment:
        return _Moment(self.iteration, time.perf_counter(), self.set_aside.seconds, self.waiting.seconds)


class _DrawnByHand(tqdm):
    monitor_interval = 0  # no monitor thread: RunProgress decides when to draw
    figures: Sequence[str] = ()

    @property
    def format_dict(self) -> dict[str, Any]:
        facts = super().format_dict
        shown = list(self.figures)
        while shown and facts['ncols'] and len(self._line(facts, shown)) > facts['ncols']:
            shown.pop()  # on a narrow terminal the last figures are left out
        return {**facts, 'figures': ', '.join(shown)}

    def _line(self, facts: Mapping[str, Any], shown: Sequence[str]) -> str:
        counts = {'n_fmt': facts['total'], 'total_fmt': facts['total'], 'percentage': 100.0}
        return _BAR_FORMAT.format(desc=facts['prefix'], bar='----', figures=', '.join(shown), **counts)


class _Bar:
    def __init__(self, progress: RunProgress, logger: logging.Logger) -> None:
        self.losses = ''
        self._drawn = 0.0
        self._moments: collections.deque[_Moment] = collections.deque(maxlen=_DRAWINGS_REMEMBERED)
        self._lines_above = contextlib.ExitStack()
        self._lines_above.enter_context(_lines_above_bars(logger))
        self._bar = _DrawnByHand(
            desc=progress.name, initial=progress.iteration, total=progress.total, bar_format=_BAR_FORMAT,
            dynamic_ncols=True, file=sys.stderr,
        )  # fmt: skip

    def draw_if_due(self, progress: RunProgress) -> None:
        now = time.perf_counter()
        if now - self._drawn < _SECONDS_BETWEEN_DRAWINGS and progress.iteration < progress.total:
            return
        self._drawn = now
        self._draw(progress)

    def close(self, progress: RunProgress) -> None:
        self._draw(progress)
        self._bar.close()
        self._lines_above.close()

    def _draw(self, progress: RunProgress) -> None:
        moment = progress._moment()
        self._moments.append(moment)
        figures = [f'ETA {tqdm.format_interval(progress.seconds_left())}']
        pace = moment.pace_since(self._moments[0])
        if pace is not None:
            figures.append(f'{readable_rate(progress.samples_per_second(pace))} samples/s')
            figures.append(f'data {pace.waiting_share:.0%}')
        peak = peak_memory()
        if peak is not None:
            figures.append(str(peak))
        if self.losses:
            figures.append(self.losses)
        self._bar.n = progress.iteration
        self._bar.figures = figures
        self._bar.refresh()


def readable_time(seconds: float) -> str:
    """For example '0:02:05' or '3 days, 4:00:00'."""
    return str(timedelta(seconds=int(seconds)))


def readable_rate(samples_per_second: float) -> str:
    """At least three significant digits, for example '0.123', '12.3' or '1230'."""
    if samples_per_second >= 100:
        return f'{samples_per_second:.0f}'
    return f'{samples_per_second:#.3g}'


def can_show_a_bar() -> bool:
    """Whether stderr is a terminal with a width. A pseudo-terminal that a program reads may have width 0."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


_current: RunProgress | None = None
_is_followed = False


def current() -> RunProgress | None:
    """The progress of this process's current run; None if there is none or it has not begun to train."""
    return _current


def begin(progress: RunProgress) -> bool:
    """Makes ``progress`` the current one. Outside of :func:`following_a_run` does nothing and returns False."""
    global _current
    if _is_followed:
        _current = progress
    return _is_followed


@contextlib.contextmanager
def following_a_run() -> Iterator[None]:
    """Wraps a run: progress begun inside the block is closed when the block ends, also after an error."""
    global _current, _is_followed
    kept = _current, _is_followed
    _current, _is_followed = None, True
    finished = False
    try:
        yield
        finished = True
    finally:
        progress = _current
        _current, _is_followed = kept
        if progress is not None:
            progress.close(finished=finished)


class _AboveBars:
    """A stream that prints above the progress bars of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        tqdm.write(text, file=self._stream, end='')

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _lines_above_bars(logger: logging.Logger) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.stdout):
                stack.callback(handler.setStream, handler.stream)
                handler.setStream(_AboveBars(handler.stream))
        yield
