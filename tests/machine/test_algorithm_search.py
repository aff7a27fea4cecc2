"""cuDNN searches for algorithms where sizes repeat. Only its flag is looked at: this machine has no GPU."""

import threading

import pytest
import torch

from pdan_plugin.machine.algorithm_search import mostly_one_size, searching_algorithms


@pytest.fixture(params=[True, False])
def before(request):
    was = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = request.param
    yield request.param
    torch.backends.cudnn.benchmark = was


def is_searching():
    return torch.backends.cudnn.benchmark


@pytest.mark.parametrize('wanted', [True, False])
def test_the_setting_holds_in_the_block_and_is_then_what_it_was(wanted, before):
    with searching_algorithms(wanted):
        assert is_searching() is wanted
        with searching_algorithms(not wanted):
            assert is_searching() is not wanted
        assert is_searching() is wanted
    assert is_searching() is before
    with pytest.raises(KeyError), searching_algorithms(not before):
        raise KeyError
    assert is_searching() is before


def test_blocks_of_several_threads_leave_what_was_set_before(before):
    """The first block ends while the second one, of another thread, is active."""
    second_began, first_ended = threading.Event(), threading.Event()
    seen = []

    def second():
        with searching_algorithms(True):
            second_began.set()
            assert first_ended.wait(10)
            seen.append(is_searching())

    thread = threading.Thread(target=second)
    with searching_algorithms(False):
        thread.start()
        assert second_began.wait(10)
    first_ended.set()
    thread.join()
    assert seen == [True]
    assert is_searching() is before


@pytest.mark.parametrize(
    ('sizes', 'expected'),
    [
        ([], False),
        ([(4, 5)] * 7, False),
        ([(4, 5)] * 8, True),
        ([(4, 5)] * 8 + [(5, 4)] * 8, True),
        ([(4, 5)] * 8 + [(number, 4) for number in range(9)], False),
        ([(number, 4) for number in range(40)], False),
    ],
)
def test_a_search_pays_for_many_pictures_of_one_size(sizes, expected):
    assert mostly_one_size(sizes) is expected
