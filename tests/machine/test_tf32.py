"""float32 is computed in float32 where scores are claimed, whichever of torch's interfaces a program has used."""

import threading

import pytest
import torch

from pdan_plugin.machine import tf32
from pdan_plugin.machine.tf32 import allow_tf32, full_float32, is_tf32_allowed

HAS_NEWER = hasattr(torch.backends.cudnn, 'conv')
newer = pytest.mark.skipif(not HAS_NEWER, reason='this torch has the older flags alone')


def _operations():
    operations = [torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul]
    return [*operations, torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul]


def _precisions():
    return [operation.fp32_precision for operation in _operations()]


@pytest.fixture(autouse=True)
def _as_before():
    state = tf32._state()
    yield
    if HAS_NEWER:
        torch.backends.fp32_precision = 'none'
    allow_tf32(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    tf32._restore(state)


def test_the_older_flags_are_off_inside_and_as_they_were_after():
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, True
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not is_tf32_allowed()
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32


@newer
@pytest.mark.parametrize('asked', [True, False])
def test_a_program_that_set_the_newer_interface_is_no_error(asked):
    for operation in _operations():
        operation.fp32_precision = 'none'
    torch.backends.fp32_precision = 'tf32'  # to read the older flags may be an error from here on
    before = _precisions()
    with full_float32():
        assert _precisions() == ['ieee'] * 5
        assert torch.get_float32_matmul_precision() == 'highest'  # read by torch.compile
    assert _precisions() == before == ['tf32'] * 5
    allow_tf32(asked)
    assert is_tf32_allowed() is asked
    assert torch.backends.cuda.matmul.fp32_precision == ('tf32' if asked else 'ieee')


@newer
def test_the_older_flags_alone_leave_convolutions_in_a_global_tf32():
    """Why every operation is set: without that, this fails for the convolution."""
    torch.backends.fp32_precision = 'tf32'
    torch.backends.cudnn.allow_tf32 = False
    assert torch.backends.cudnn.conv.fp32_precision == 'tf32'
    with full_float32():
        assert torch.backends.cudnn.conv.fp32_precision == 'ieee'


@newer
def test_an_operation_that_inherited_still_follows_the_global_precision():
    torch.backends.fp32_precision = 'tf32'
    with full_float32():
        pass
    torch.backends.fp32_precision = 'ieee'
    assert torch.backends.mkldnn.conv.fp32_precision == 'ieee'


def test_threads_that_overlap_keep_it_off_until_the_last_one_ends():
    torch.backends.cudnn.allow_tf32 = True
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def other():
        with full_float32():
            entered.set()
            leave.wait()
            seen.append(is_tf32_allowed())

    thread = threading.Thread(target=other)
    with full_float32():
        thread.start()
        entered.wait()
    assert not is_tf32_allowed()  # the other thread is inside
    leave.set()
    thread.join()
    assert seen == [False]
    assert is_tf32_allowed()


def test_a_torch_of_the_older_flags_alone(monkeypatch):
    """A mock of torch before 2.9."""

    class Flags:
        allow_tf32 = True

    class Older:
        cudnn, mkldnn = Flags(), object()

        class cuda:
            matmul = Flags()

    monkeypatch.setattr(tf32, '_backends', Older)
    with full_float32():
        assert not Older.cudnn.allow_tf32
        assert not is_tf32_allowed()
    assert Older.cudnn.allow_tf32
    assert is_tf32_allowed()
