"""A known response comes back from pictures exposed with it; scripts/calibrate_response.py from files."""

import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.camera_response import Response, response
from pdan_plugin.synthesis.response_calibration import calibrate_response

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'calibrate_response.py'
TIMES = [0.02 * 1.6 ** (number - 3) for number in range(9)]


@pytest.fixture(scope='module')
def light() -> np.ndarray:
    """Of a photograph, continuous, from black to white; (h, w, 3)."""
    found = response('srgb').to_linear(data.astronaut()[::2, ::2]).astype(np.float64)
    return cv2.GaussianBlur(found, (0, 0), 0.7) / found.max()


def exposed(light: np.ndarray, camera: Response, times: list[float]) -> list[np.ndarray]:
    return [camera.from_linear(light * time / 0.02) for time in times]


@pytest.fixture(scope='module')
def series(light: np.ndarray) -> list[np.ndarray]:
    return exposed(light, response('gamma'), TIMES)


@pytest.mark.parametrize('name', ['gamma', 'srgb'])
def test_a_known_response_comes_back(light, name):
    true = response(name)
    found = calibrate_response(exposed(light, true, TIMES), TIMES)
    for channel in range(3):
        # In grey levels: which level of the true curve has the light that was found.
        curve = true.table[:, channel] / true.table[128, channel]
        levels = np.interp(found.table[:, channel], curve, np.arange(256))
        assert np.abs(levels - np.arange(256))[5:251].max() < 3
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.abs(found.from_linear(found.to_linear(every_level)).astype(int) - every_level).max() <= 1


def test_the_order_of_the_pictures_does_not_matter_and_channels_stay_apart(light):
    curves = np.stack([(np.arange(256) / 255) ** power for power in (1.6, 2.0, 2.4)], axis=1)
    pictures = exposed(light, Response('three', curves), TIMES)
    found = calibrate_response(pictures, TIMES)
    again = calibrate_response(pictures[::-1], TIMES[::-1])
    assert again.table == pytest.approx(found.table, rel=1e-3)
    assert found.table[64] == pytest.approx(curves[64] / curves[128], rel=0.05)


class TestRefusals:
    def refused(self, pictures, times) -> str:
        with pytest.raises(RequestError) as raised:
            calibrate_response(pictures, times)
        return str(raised.value)

    def test_too_few_or_unlike_pictures(self, series):
        assert '1 pictures with 1 different exposure times' in self.refused(series[:1], TIMES[:1])
        assert '2 pictures with 1 different exposure times' in self.refused(series[:2], [0.1, 0.1])
        assert '9 pictures but 8 exposure times' in self.refused(series, TIMES[1:])
        assert 'must be above 0 seconds' in self.refused(series[:2], [0.0, 0.1])
        assert 'picture 2 is 100x256, the first one 256x256' in self.refused([series[0], series[1][:, :100]], [1, 2])
        assert 'picture 1 is uint8 (256, 256), expected 8-bit RGB' in self.refused([series[0][..., 0]] * 2, [1, 2])

    def test_times_in_another_order_than_the_pictures(self, series):
        assert 'is not brighter' in self.refused(series, TIMES[::-1])

    def test_levels_that_no_picture_shows(self, series):
        dark = [picture // 2 for picture in series]
        assert 'no picture shows the red level' in self.refused(dark, TIMES)


class TestScript:
    def run(self, *words: object) -> int:
        return runpy.run_path(str(SCRIPT))['main']([str(word) for word in words])

    def files(self, folder: Path, series: list[np.ndarray], times: list[float] | None, **others: int) -> list[Path]:
        """Pictures on disk, with EXIF records where times are given."""
        names = []
        for number, picture in enumerate(series):
            record = Image.Exif()
            if times is not None:
                record[0x8769] = {33434: times[number], 34855: others.get('iso', 100)}
            names.append(folder / f'{number}.png')
            Image.fromarray(picture).save(names[-1], exif=record)
        return names

    def test_times_from_exif_and_from_the_command_line_agree(self, tmp_path, series, capsys):
        times = [number / 100 for number in (1, 2, 3, 5, 8)]
        pictures = self.files(tmp_path, series[2:7], times)
        assert self.run(*pictures, '-o', tmp_path / 'exif.npy') == 0
        said = capsys.readouterr().out
        assert f'Next: basicsr synthesize SOURCE TARGET --response {tmp_path / "exif.npy"}' in said
        assert 'Levels above 250 are continued' in said
        assert self.run(*pictures, '-o', tmp_path / 'told.npy', '--exposures', '1/100', 0.02, '3/100', 0.05, 0.08) == 0
        assert response(str(tmp_path / 'exif.npy')).note == ''
        exif, told = (response(str(tmp_path / name)) for name in ('exif.npy', 'told.npy'))
        assert exif.table == pytest.approx(told.table, rel=1e-5)
        assert cv2.imread(str(tmp_path / 'exif.response.png')).shape[1] > 800

    def test_what_it_refuses_writes_nothing(self, tmp_path, series, capsys):
        kept = tmp_path / 'kept.npy'
        kept.write_bytes(b'what was there before')
        plain = self.files(tmp_path, series[2:5], None)
        assert self.run(*plain, '-o', kept) == 2
        assert '0.png: its EXIF record has no exposure time' in capsys.readouterr().err
        (tmp_path / 'no.png').write_bytes(b'no picture')
        assert self.run(plain[0], tmp_path / 'no.png', '-o', kept, '--exposures', 1, 2) == 2
        assert 'no.png: cannot be read as a picture' in capsys.readouterr().err
        other = tmp_path / 'other'
        other.mkdir()
        pictures = (
            self.files(other, series[2:4], TIMES[2:4])[:1] + self.files(tmp_path, series[2:4], TIMES[2:4], iso=200)[1:]
        )
        assert self.run(*pictures, '-o', kept) == 2
        assert 'the ISO sensitivity differs' in capsys.readouterr().err
        assert self.run(*plain, '-o', tmp_path / 'table.txt', '--exposures', 1, 2, 3) == 2
        assert kept.read_bytes() == b'what was there before'
        assert not (tmp_path / 'kept.response.png').exists()
        taken = plain[0].rename(tmp_path / 'kept.response.png')
        before = taken.read_bytes()
        assert self.run(taken, *plain[1:], '-o', kept, '--exposures', 1, 2, 3) == 2
        assert 'would overwrite one of the pictures' in capsys.readouterr().err
        assert taken.read_bytes() == before

    def test_a_picture_is_never_written_over(self, tmp_path, series, capsys):
        pictures = self.files(tmp_path, series[2:7], TIMES[2:7])
        shutil.copy(pictures[1], tmp_path / '4.response.png')
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        told = [*pictures[:4], tmp_path / '4.response.png']
        assert self.run(*told, '-o', tmp_path / '4.npy') == 2
        assert '4.response.png: would overwrite one of the pictures' in capsys.readouterr().err
        (tmp_path / 'link.npy').symlink_to(pictures[0])
        assert self.run(*pictures, '-o', tmp_path / 'link.npy') == 2
        assert 'link.npy: would overwrite one of the pictures' in capsys.readouterr().err
        (tmp_path / 'link.npy').unlink()
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        assert self.run(*pictures, '-o', tmp_path / '0.npy') == 0
        now = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert now.keys() - before.keys() == {'0.npy', '0.response.png'}
        assert {name: now[name] for name in before} == before

    @pytest.mark.parametrize('time', ['1e999', '1/1e999', '1e999999999', 'nan', '1/0', '1/', '0', '-1'])
    def test_what_is_no_time_is_told(self, tmp_path, capsys, time):
        with pytest.raises(SystemExit):
            self.run('a.png', '-o', tmp_path / 'a.npy', f'--exposures={time}')
        assert f"'{time}' is not a time in seconds above 0" in capsys.readouterr().err

    def test_after_ctrl_c_it_does_not_promise_to_go_on(self, tmp_path, capsys, monkeypatch):
        def interrupted(*words: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr('pdan_plugin.synthesis.response_calibration.exposures_of', interrupted)
        assert self.run('a.png', '-o', tmp_path / 'a.npy') == 130
        assert capsys.readouterr().err == 'basicsr calibrate-response: interrupted\n'
