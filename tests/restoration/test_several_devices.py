"""Pictures shared over several devices. The devices are CPU workers, each with its own network."""

import threading

import numpy as np
import pytest
import torch
from repeating_network import make_weights

from pdan_plugin.archs import PDAN
from pdan_plugin.errors import RequestError
from pdan_plugin.machine import devices
from pdan_plugin.machine.devices import choose_devices
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_writing import write_picture
from pdan_plugin.restoration import restore_path
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.several_devices import SeveralDevices


class Device:
    """A stand-in for a restorer on a device of its own, which all others wait for."""

    scale = 1

    def __init__(self, barrier=None, error=None):
        self.barrier, self.error, self.busy, self.count = barrier, error, threading.Lock(), 0

    def begin_pictures(self, pictures, on_tile=None):
        assert self.busy.acquire(blocking=False), 'two pictures at the same time on one device'
        try:
            self.count += 1
            if self.barrier is not None:
                self.barrier.wait(10)  # broken unless all devices work at the same time
            if self.error is not None:
                raise self.error
            return [lambda picture=picture: picture + 1 for picture in pictures]
        finally:
            self.busy.release()


def test_all_devices_work_at_the_same_time_and_results_keep_their_place():
    barrier = threading.Barrier(3)
    restorers = [Device(barrier) for _ in range(3)]
    with SeveralDevices(restorers) as several:
        begun = [several.begin_picture(np.full((1, 1, 3), number)) for number in range(6)]
        assert [int(wait()[0, 0, 0]) for wait in begun] == [1, 2, 3, 4, 5, 6]
    assert sum(each.count for each in restorers) == 6


def test_an_error_of_one_device_reaches_its_picture_alone():
    with SeveralDevices([Device(error=RuntimeError('this card is ill'))]) as several:
        wait = several.begin_picture(np.zeros((1, 1, 3)))
        with pytest.raises(RuntimeError, match='this card is ill'):
            wait()
    with SeveralDevices([Device()]) as several:
        for _ in range(5):  # more than may wait: each that is done makes room
            assert several.restore_picture(np.zeros((1, 1, 3))).max() == 1


def test_two_workers_restore_what_one_does(tmp_path):
    torch.manual_seed(0)
    network = PDAN(num_feat=16, num_group=1, num_block=1, fuse_levels=1)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8) for number in range(5)]
    one = Restorer(network, 'cpu')
    with SeveralDevices([Restorer(network, 'cpu') for _ in range(2)]) as several:
        waiting = [several.begin_picture(picture) for picture in pictures[:4]]
        for picture, wait in zip(pictures, waiting, strict=False):
            np.testing.assert_array_equal(wait(), one.restore_picture(picture))


def test_a_folder_is_shared_and_a_broken_picture_is_named(tmp_path, capsys):
    weights = make_weights(tmp_path, 'repeating')
    (tmp_path / 'in').mkdir()
    content = [np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8) for number in range(6)]
    for number, colour in enumerate(content):
        write_picture(tmp_path / f'in/{number}.png', Picture(colour))
    (tmp_path / 'in/3.png').write_bytes((tmp_path / 'in/3.png').read_bytes()[:60])
    assert restore_path(tmp_path / 'in', tmp_path / 'out', weights, devices='cpu,cpu') == 1
    assert '3.png: cannot be decoded' in capsys.readouterr().err
    for number in (0, 1, 2, 4, 5):
        expected = content[number].repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(read_picture(tmp_path / f'out/{number}.png').colour, expected)


def test_names_of_devices(monkeypatch):
    """Three GPUs are a mock."""
    assert choose_devices('cpu, cpu') == [torch.device('cpu')] * 2
    with pytest.raises(RequestError, match='device cuda:99: cannot be used'):
        choose_devices('99')
    with pytest.raises(RequestError, match='device :'):
        choose_devices('')
    monkeypatch.setattr(devices, '_is_usable', lambda kind: kind == 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 3)
    assert [str(each) for each in choose_devices('auto')] == ['cuda:0', 'cuda:1', 'cuda:2']
    monkeypatch.setattr(devices, 'choose_device', lambda name: torch.device('cuda' if name == 'auto' else name))
    assert [str(each) for each in choose_devices('0,2')] == ['cuda:0', 'cuda:2']
    with pytest.raises(RequestError, match='devices 0,1,0: 0 is named twice'):
        choose_devices('0,1,0')


def test_one_device_or_several(tmp_path):
    with pytest.raises(RequestError, match='--device cpu and --devices cpu,cpu: give one of them'):
        restore_path(tmp_path, tmp_path / 'out', device='cpu', devices='cpu,cpu')
    with pytest.raises(RequestError, match='--device nowhere: cannot be used'):
        restore_path(tmp_path, tmp_path / 'out', devices='cpu,nowhere')
