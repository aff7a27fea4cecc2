"""Stages that overlap keep order, limits and errors, and leave nothing running."""

import threading
import time
from contextlib import closing

import pytest

from pdan_plugin.machine.overlap import Limits, ReadAhead, Stages, Stopped, WriteBehind, overlapped


class Work:
    """Stages that record what happens, and fail or wait where a test says so."""

    def __init__(self, *, fails=None, size=lambda item: 1):
        self.fails = fails or {}
        self.events, self.under_way, self.most = [], 0, 0
        self.lock = threading.Lock()
        self.stages = Stages(self.read, self.work, self.finish, size)

    def _note(self, stage, item):
        with self.lock:
            self.events.append((stage, item))
        if self.fails.get(item) == stage:
            raise OSError(f'{stage} of {item}')

    def read(self, item):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self._note('read', item)
        return item * 10

    def work(self, items, values):
        (item,), (value,) = items, values
        assert value == item * 10
        assert threading.current_thread() is threading.main_thread()
        self._note('work', item)
        return [value + 1]

    def finish(self, item, result):
        assert result == item * 10 + 1
        time.sleep(0.002 * (item % 3))
        self._note('finish', item)
        with self.lock:
            self.under_way -= 1


def test_every_item_is_done_in_order_and_reading_is_ahead_of_the_work():
    work = Work()
    third_is_read = threading.Event()

    def read(item):
        if item == 3:
            third_is_read.set()
        return work.read(item)

    def slow(items, values):
        assert items[0] > 0 or third_is_read.wait(10)
        return work.work(items, values)

    stages = Stages(read, slow, work.finish)
    done = [item for item, error in overlapped(range(20), stages, Limits(2, 2)) if error is None]
    assert done == list(range(20))
    assert [item for stage, item in work.events if stage == 'work'] == list(range(20))


def test_the_network_goes_on_while_earlier_results_are_written():
    written, begun = threading.Event(), []

    def work(items, values):
        begun.extend(items)
        if items[0] == 3:
            written.set()
        return items

    def finish(item, result):
        if item == 0:
            assert written.wait(10)  # only the work on item 3 ends this

    done = [error for _, error in overlapped(range(6), Stages(lambda item: item, work, finish), Limits(2, 2))]
    assert done == [None] * 6


def test_a_result_that_takes_long_to_write_does_not_hold_up_those_behind_it():
    later = threading.Event()

    def work(items, values):
        if items[0] == 12:
            later.set()
        return items

    def finish(item, result):
        if item == 0:
            assert later.wait(10)  # only the work on item 12, far more than may wait to be written, ends this

    done = list(overlapped(range(20), Stages(lambda item: item, work, finish), Limits(2, 2)))
    assert done == [(item, None) for item in range(20)]


def test_finished_items_that_wait_for_an_earlier_one_are_bounded():
    is_over, begun = threading.Event(), []

    def work(items, values):
        assert is_over.is_set() or items[0] <= 3 + 4
        begun.extend(items)
        return items

    def finish(item, result):
        if item == 0:
            time.sleep(0.2)
            is_over.set()

    done = [error for _, error in overlapped(range(40), Stages(lambda item: item, work, finish), Limits(2, 2, 99, 3))]
    assert done == [None] * 40
    assert begun == list(range(40))


@pytest.mark.parametrize('stage', ['read', 'work', 'finish'])
def test_an_error_belongs_to_its_item_and_stops_no_other(stage):
    work = Work(fails={2: stage, 5: stage})
    errors = dict(overlapped(range(8), work.stages, Limits(2, 2)))
    assert list(errors) == list(range(8))
    assert {item: str(error) for item, error in errors.items() if error} == {2: f'{stage} of 2', 5: f'{stage} of 5'}
    later = {'read': ['work', 'finish'], 'work': ['finish'], 'finish': []}[stage]
    assert not [event for event in work.events if event[0] in later and event[1] in (2, 5)]


def test_values_that_are_ready_are_worked_on_together_and_a_failing_group_one_by_one():
    groups, read_all = [], threading.Event()

    def read(item):
        if item == 3:
            read_all.set()
        if item == 6:
            raise OSError('read of 6')
        return item

    def work(items, values):
        groups.append(list(items))
        if items[0] == 0:
            assert read_all.wait(10)
            time.sleep(0.1)  # until the next ones are ready
        if 2 in items:
            raise OSError(f'work on {items}')
        return values

    stages = Stages(read, work, lambda item, result: None, together=lambda first, other, count: count <= 3)
    errors = dict(overlapped(range(8), stages, Limits(2, 2)))
    assert list(errors) == list(range(8))
    assert {item: str(error) for item, error in errors.items() if error} == {2: 'work on [2]', 6: 'read of 6'}
    assert any(2 in group and len(group) > 1 for group in groups)  # and then each alone
    assert all(len(group) <= 3 and 6 not in group for group in groups)


@pytest.mark.parametrize(('most', 'allowed'), [(3, 3), (1, 1), (100, 4 + 1 + 4)])
def test_what_is_under_way_is_bounded_by_its_bytes_and_by_the_queues(most, allowed):
    work = Work()
    assert len(list(overlapped(range(30), work.stages, Limits(2, 2, most)))) == 30
    assert work.most <= allowed


def test_an_item_larger_than_all_is_alone():
    work = Work(size=lambda item: 50 if item == 3 else 1)
    present = []

    def read(item):
        present.append(item)
        assert item != 3 or present == [3]
        return item * 10

    run = overlapped(range(6), Stages(read, work.work, work.finish, work.stages.size), Limits(2, 2, 10))
    done = []
    for item, error in run:
        assert error is None
        present.remove(item)
        done.append(item)
    assert done == list(range(6))


@pytest.mark.parametrize('where', ['work', 'caller'])
def test_stopping_drops_what_has_not_begun_and_waits_for_what_has(where):
    stopping, writing, ended = threading.Event(), threading.Event(), []

    def work(items, values):
        if items[0] == 2 and where == 'work':
            assert writing.wait(10)
            raise KeyboardInterrupt
        return items

    def finish(item, result):
        if item == 0:
            assert writing.wait(10)
        if item == 1:
            writing.set()
            assert stopping.wait(10)  # a long stage looks at it
            ended.append(item)
            raise Stopped

    run = overlapped(range(50), Stages(lambda item: item, work, finish), Limits(2, 2), stopping)

    def take_all():
        for item, _ in run:
            if where == 'caller' and item == 0:
                raise KeyboardInterrupt

    with closing(run), pytest.raises(KeyboardInterrupt):
        take_all()
    assert ended == [1]
    assert not [each.name for each in threading.enumerate() if each.name.startswith(('reading', 'finishing'))]


def test_reading_ahead_keeps_order_is_bounded_and_raises_at_its_place():
    produced, taken = [], []

    def items():
        for number in range(10):
            assert number - len(taken) <= 3 + 1 + 1  # waiting, in hand, and the one that is offered
            produced.append(number)
            yield number
        raise ValueError('the end')

    def take_all(ahead):
        for item in ahead:
            taken.append(item)
            time.sleep(0.002)

    with ReadAhead(items(), 3) as ahead, pytest.raises(ValueError, match='the end'):
        take_all(ahead)
    assert taken == list(range(10))


def test_leaving_early_ends_the_reading_thread_and_closes_the_iterator():
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    with ReadAhead(items(), 2) as ahead:
        assert next(iter(ahead)) == 0
    assert closed == ['reading ahead']
    assert not [each for each in threading.enumerate() if each.name == 'reading ahead']


def test_nothing_is_read_while_reading_is_paused():
    is_paused = threading.Event()

    def items():
        for number in range(12):
            assert not is_paused.is_set()
            time.sleep(0.002)  # a slow reader
            assert not is_paused.is_set()
            yield number

    taken = []
    with ReadAhead(items(), 3) as ahead:
        for item in ahead:
            with ahead.paused():
                is_paused.set()
                time.sleep(0.005)
                is_paused.clear()
            taken.append(item)
    assert taken == list(range(12))


def test_reading_goes_on_after_a_pause_and_an_error_in_a_pause():
    with ReadAhead(iter(range(5)), 1) as ahead:
        with pytest.raises(KeyboardInterrupt), ahead.paused():
            raise KeyboardInterrupt
        assert list(ahead) == list(range(5))
    with ReadAhead(iter(range(5)), 1) as ahead, ahead.paused():
        pass  # leaving ends the thread


@pytest.mark.parametrize('behind', [0, 3])
def test_writing_behind_keeps_order_and_all_is_done_at_the_end(behind):
    done = []
    with WriteBehind(behind) as queue:
        for number in range(20):
            queue.add(lambda number=number: done.append(number))
    assert done == list(range(20))


def test_an_error_of_a_call_reaches_the_caller_and_drops_later_calls():
    done = []

    def fail():
        raise OSError('the disk is full')

    def add_more(queue):
        queue.add(fail)
        for number in range(1000):
            queue.add(lambda number=number: done.append(number))
            time.sleep(0.001)

    with pytest.raises(OSError, match='the disk is full'), WriteBehind(2) as queue:
        add_more(queue)
    assert done == []
    with pytest.raises(OSError, match='the disk is full'), WriteBehind(2) as queue:
        queue.add(fail)  # as the last call


def test_an_error_of_the_caller_drops_the_calls_that_wait():
    begun, go_on, done = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go_on.wait(10)
        done.append('slow')

    def leave(queue):
        queue.add(slow)
        queue.add(lambda: done.append('waiting'))
        assert begun.wait(10)
        threading.Timer(0.05, go_on.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), WriteBehind(3) as queue:
        leave(queue)
    assert done == ['slow']
