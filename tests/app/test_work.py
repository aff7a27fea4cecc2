"""The work behind the page: limits, one job at a time, stopping, errors for the user."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from video_files import make_interlaced

from pdan_plugin.app.limits import Limits, accepted
from pdan_plugin.app.networks import Networks
from pdan_plugin.app.restored_file import MOST_SHOWN, RestoredFile, _of_one_size
from pdan_plugin.app.work import JobStopped, Progress, Work
from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.weights.packaged_weights import DEFAULT, packaged_weights

PHOTO = astronaut()[::4, ::4]


@pytest.fixture(scope='module')
def networks() -> Networks:
    return Networks()


@pytest.fixture
def work(networks, tmp_path):
    work = Work(networks, Limits(0.02, 2), tmp_path / 'results')
    yield work
    work.close()


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / 'photo.png'
    Image.fromarray(PHOTO[:40, :56]).save(path)
    return path


def video(path: Path, frames: int = 4) -> Path:
    return make_interlaced(path, ['prog'] * frames, step=1)


def result(work: Work, path: Path, user: str = 'me') -> RestoredFile:
    *progress, last = work.restore(path, DEFAULT, user)
    assert all(isinstance(step, Progress) for step in progress)
    assert isinstance(last, RestoredFile)
    return last


class TestResults:
    def test_a_picture_with_all_that_its_file_holds(self, work, tmp_path):
        deep = PHOTO[:24, :32].astype(np.uint16) * 257
        path = tmp_path / 'deep.png'
        cv2.imwrite(str(path), np.dstack([deep[..., ::-1], np.full((24, 32), 65535, np.uint16)]))
        restored = result(work, path)
        assert restored.path.name == 'deep_x4.png'
        assert not restored.is_video
        whole = read_picture(restored.path)
        assert whole.colour.shape == (96, 128, 3)
        assert whole.bits == 16
        assert whole.alpha is not None
        assert restored.before.shape == restored.after.shape == (96, 128, 3)
        assert np.abs(restored.before.astype(int) - restored.after).mean() < 20  # the same picture

    def test_a_video_with_its_first_frame(self, work, tmp_path):
        restored = result(work, video(tmp_path / 'clip.mp4'))
        assert restored.path.name == 'clip_x4.mp4'
        assert restored.is_video
        assert restored.before.shape == restored.after.shape == (192, 256, 3)

    def test_large_pictures_are_shown_smaller(self):
        before, after = _of_one_size(np.zeros((10, 1000, 3), np.uint8), np.zeros((40, 4000, 3), np.uint8))
        assert before.shape == after.shape == (24, MOST_SHOWN, 3)

    def test_the_newest_results_are_kept(self, work, picture, monkeypatch):
        monkeypatch.setattr('pdan_plugin.app.work._KEPT', 2)
        paths = [result(work, picture).path for _ in range(3)]
        assert [path.exists() for path in paths] == [False, True, True]


class TestRefused:
    @pytest.mark.parametrize(
        ('name', 'content', 'text'),
        [
            ('a.png', b'', 'a.png: cannot be decoded as a picture'),
            ('a.png', b'no picture at all', 'a.png: '),
            ('a.mp4', b'\0' * 5000, 'a.mp4: '),
        ],
    )
    def test_what_is_no_picture(self, tmp_path, name, content, text):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RequestError) as refused:
            accepted(tmp_path / name, Limits())
        assert str(refused.value).startswith(text)
        assert str(tmp_path) not in str(refused.value)

    def test_too_many_pixels(self, tmp_path):
        Image.new('RGB', (300, 200)).save(tmp_path / 'big.png')
        assert accepted(tmp_path / 'big.png', Limits(0.06)).size == (200, 300)
        with pytest.raises(RequestError, match=r'300 × 200 pixels are 0\.1 megapixels; this page takes at most 0\.05'):
            accepted(tmp_path / 'big.png', Limits(0.05))

    def test_a_video_that_is_too_long_or_too_large(self, tmp_path):
        path = video(tmp_path / 'clip.mp4', 30)
        assert accepted(path, Limits(seconds=1.2)).frames in (29, 30)
        with pytest.raises(RequestError, match=r'1\.\d seconds; this page takes at most 1\.'):
            accepted(path, Limits(seconds=1))
        with pytest.raises(RequestError, match='megapixels'):
            accepted(path, Limits(megapixels=0.002))

    def test_a_picture_that_breaks_within_the_work_leaves_nothing(self, work, picture, tmp_path):
        whole = picture.read_bytes()
        picture.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RequestError, match=r'photo\.png: '):
            list(work.restore(picture, DEFAULT, 'me'))
        assert not list((tmp_path / 'results').glob('*/*'))
        picture.write_bytes(whole)
        assert result(work, picture).path.is_file()

    def test_weights_that_are_not_offered(self, work, picture):
        with pytest.raises(RequestError, match='no such weights; this page has pdan_small'):
            list(work.restore(picture, '../../secret.pth', 'me'))

    def test_weights_of_the_command(self, tmp_path):
        with pytest.raises(RequestError, match='no such file'):
            Networks([tmp_path / 'net.pth'])
        file = packaged_weights()[DEFAULT]
        own = tmp_path / 'mine.safetensors'
        own.write_bytes(file.read_bytes())
        assert Networks([own]).names == ['mine.safetensors', DEFAULT]
        (tmp_path / 'other').mkdir()
        (tmp_path / 'other' / own.name).write_bytes(b'')
        with pytest.raises(RequestError, match='another file is called mine'):
            Networks([own, tmp_path / 'other' / own.name])


class TestOneAtATime:
    def test_another_user_waits(self, work, picture, tmp_path, monkeypatch):
        forward = PDAN.forward

        def slow(self, x, return_lr=False):
            time.sleep(0.2)  # the first job must not end on its own
            return forward(self, x, return_lr)

        monkeypatch.setattr(PDAN, 'forward', slow)
        first = work.restore(video(tmp_path / 'clip.mp4', 40), DEFAULT, 'first')
        while 'Restoring' not in next(first).text:  # pyright: ignore[reportAttributeAccessIssue]
            pass
        second = work.restore(picture, DEFAULT, 'second')
        assert next(second).text == 'Waiting: another job is running'
        with pytest.raises(RequestError, match='still running'):
            next(work.restore(picture, DEFAULT, 'first'))
        work.stop('second')
        with pytest.raises(JobStopped):
            list(second)
        work.stop('first')
        with pytest.raises(JobStopped):
            list(first)
        assert result(work, picture, 'first').path.is_file()  # after what the stopped job had begun has ended
        assert not list((tmp_path / 'results').glob('*/*.mp4'))

    def test_a_video_tells_how_far_it_is(self, work, tmp_path):
        steps = list(work.restore(video(tmp_path / 'clip.mp4', 12), DEFAULT, 'me'))
        shares = [step.share for step in steps[:-1] if step.share]
        assert shares
        assert shares == sorted(shares)
        assert any(step.text.startswith('Restoring: frame ') for step in steps[:-1])

    def test_a_page_that_is_left_stops_its_job(self, work, picture, tmp_path):
        job = work.restore(video(tmp_path / 'clip.mp4', 40), DEFAULT, 'me')
        next(job)
        job.close()
        assert result(work, picture).path.is_file()

    def test_a_stop_without_a_job_does_nothing(self, work):
        work.stop('nobody')
