"""Clips out of videos, folders and zips: what is found, what is read, and what is refused with which words."""

import pickle
import shutil
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from skimage import data
from video_files import make_interlaced, set_display_matrix, view

from pdan_plugin.errors import RequestError
from pdan_plugin.media.orientation import upright
from pdan_plugin.media.pyav import from_rgb
from pdan_plugin.preparation.source_survey import _refuse_holes, find_clips
from pdan_plugin.preparation.synthesis_plan import Settings, plan_runs
from pdan_plugin.preparation.synthesis_workers import Work, run_outcomes
from pdan_plugin.synthesis.camera_response import response
from pdan_plugin.synthesis.frame_interpolation import interpolator
from pdan_plugin.synthesis.motion_blur import SubframeWindow

PHOTO = data.astronaut()
FLAT = np.full((48, 64, 3), (180, 90, 60), np.uint8)


def frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A window that wanders over a photograph, (h, w, 3) uint8 RGB."""
    return PHOTO[100 + number : 100 + number + height, 50 + 3 * number :][:, :width]


def write_frames(folder: Path, count: int, first: int = 0, name: str = '{:08d}.png') -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / name.format(first + number)), frame(number)[..., ::-1])
    return folder


def write_video(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 24, (64, 48))
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.ascontiguousarray(frame(number)[..., ::-1]))
    writer.release()
    return path


def write_plain(path: Path, frames: list, *, codec: str = 'libx264', pix_fmt: str = 'yuv420p', colorspace: int = 2):
    """A video of these RGB frames, 25 a second, coded by the given matrix (an unknown one is only written down)."""
    known = colorspace if colorspace in (1, 5, 9) else 5
    with av.open(str(path), 'w') as output:
        options = {'crf': '2'} if codec == 'libx264' else {'flags': '+qscale', 'global_quality': '236'}
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.colorspace = pix_fmt, colorspace
        for pixels in frames:
            converted = from_rgb(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels)), pix_fmt, known, 1)
            converted.colorspace = colorspace
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return path


def zipped(folder: Path, path: Path, inside: str, choose=lambda file: True) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob('*.png')):
            if choose(file):
                archive.write(file, f'{inside}/{file.relative_to(folder)}')
    return path


def refusal(source: Path) -> str:
    with pytest.raises(RequestError) as caught:
        find_clips(source, 'train', say=lambda line: None)
    return str(caught.value)


class TestFolders:
    def test_numbers_give_the_order_whatever_their_width_and_begin(self, tmp_path):
        write_frames(tmp_path / 'a clip.v2', 11, first=3, name='img_{}.png')
        (clip,) = find_clips(tmp_path, 'train')
        assert (clip.name, clip.frames, clip.first, clip.size) == ('a_clip_v2', 11, 3, (48, 64))
        for number, read in zip((0, 7, 10), clip.read([0, 7, 10]), strict=True):
            np.testing.assert_array_equal(read, frame(number))

    def test_a_folder_of_frames_may_be_given_itself_and_may_hold_jpegs(self, tmp_path):
        write_frames(tmp_path / 'clip', 3, name='{:03d}.jpg')
        (clip,) = find_clips(tmp_path / 'clip', 'train')
        (read,) = clip.read([1])
        assert np.abs(read.astype(int) - frame(1)).mean() < 4

    def test_a_clip_travels_to_another_process(self, tmp_path):
        (clip,) = find_clips(write_frames(tmp_path / 'clip', 2), 'train')
        (read,) = pickle.loads(pickle.dumps(clip)).read([1])
        np.testing.assert_array_equal(read, frame(1))

    def test_every_fault_is_named_at_once(self, tmp_path):
        write_frames(tmp_path / 'gap', 12)
        for number in (4, 5):
            (tmp_path / 'gap' / f'{number:08d}.png').unlink()
        write_frames(tmp_path / 'twice', 2, name='{}.png')
        shutil.copy(tmp_path / 'twice' / '1.png', tmp_path / 'twice' / '01.png')
        write_frames(tmp_path / 'unnumbered', 2)
        shutil.copy(tmp_path / 'twice' / '1.png', tmp_path / 'unnumbered' / 'cover.png')
        said = refusal(tmp_path)
        assert 'gap: 2 frames are missing between 00000000.png and 00000011.png (number 4, 5)' in said
        assert 'twice: 01.png and 1.png have the same number' in said
        assert 'unnumbered/cover.png: its name does not end in a number' in said

    def test_headers_tell_wrong_sizes_and_kinds(self, tmp_path):
        folder = write_frames(tmp_path / 'clip', 6)
        cv2.imwrite(str(folder / '00000002.png'), frame(0, height=40))
        cv2.imwrite(str(folder / '00000003.png'), frame(0)[..., 0])
        assert '00000003.png: is 8-bit grey, expected 8-bit RGB' in refusal(folder)
        cv2.imwrite(str(folder / '00000003.png'), frame(3))
        assert '00000002.png: is 64x40, expected 64x48 like the rest of its clip' in refusal(folder)

    @pytest.mark.parametrize('suffix', ['png', 'jpg'])
    def test_a_truncated_frame_is_named_when_it_is_read(self, tmp_path, suffix):
        folder = write_frames(tmp_path / 'clip', 3, name='{}.' + suffix)
        whole = (folder / f'1.{suffix}').read_bytes()
        (folder / f'1.{suffix}').write_bytes(whole[: len(whole) // 2])
        (clip,) = find_clips(folder, 'train')  # its header is whole
        with pytest.raises(RequestError, match=rf'1\.{suffix}: is a truncated {"PNG" if suffix == "png" else "JPEG"}'):
            list(clip.read([0, 1, 2]))

    def test_the_first_frame_is_read_before_anything_is_made_of_the_clip(self, tmp_path):
        folder = write_frames(tmp_path / 'clip', 3)
        (folder / '00000000.png').write_bytes((folder / '00000000.png').read_bytes()[:500])
        assert '00000000.png: is a truncated PNG' in refusal(folder)


class TestVideos:
    def test_frames_are_counted_and_read_from_any_place(self, tmp_path):
        (clip,) = find_clips(write_video(tmp_path / 'pan.avi', 12), 'train')
        assert (clip.name, clip.frames, clip.size) == ('pan', 12, (48, 64))
        every = list(clip.read(range(12)))
        assert np.abs(every[7].astype(int) - frame(7)).mean() < 4
        for positions in ([5, 6], [9], [2, 3, 11]):  # on, on, and back again
            for position, read in zip(positions, clip.read(positions), strict=True):
                np.testing.assert_array_equal(read, every[position])

    def test_what_counts_is_what_can_be_read(self, tmp_path):
        path = write_video(tmp_path / 'pan.avi', 20)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        said = []
        (clip,) = find_clips(path, 'train', say=said.append)
        assert len(list(clip.read(range(clip.frames)))) == clip.frames < 20
        assert f'{path}: {clip.frames} frames can be read (its header says 20)' in said[0]

    def test_no_video_and_one_without_frames_are_named(self, tmp_path):
        (tmp_path / 'notes.mp4').write_bytes(b'not a video at all')
        assert 'notes.mp4: cannot be opened as a video' in refusal(tmp_path)
        empty = write_video(tmp_path / 'empty' / 'none.avi', 0)
        assert 'none.avi: ' in refusal(empty)

    @pytest.mark.parametrize('order', ['tff', 'bff'])
    def test_an_interlaced_video_is_deinterlaced_and_told(self, tmp_path, order):
        path, said = make_interlaced(tmp_path / 'in.mpg', [order] * 8), []
        (clip,) = find_clips(path, 'train', say=said.append)
        assert said == [f'{path}: 8 of 8 frames are interlaced: deinterlaced, one frame for each']
        for positions in (range(8), [5, 7]):
            for number, read in zip(positions, clip.read(positions), strict=True):
                grey = (read.astype(int) - view(4 * number)).mean(-1)
                assert np.abs(grey).mean() < 7

    @pytest.mark.parametrize('matrix', [1, 5, 9])
    def test_colours_are_by_the_matrix_of_the_file(self, tmp_path, matrix):
        (clip,) = find_clips(write_plain(tmp_path / 'in.mkv', [FLAT] * 3, colorspace=matrix), 'train')
        (read,) = clip.read([1])
        assert np.abs(read.astype(int) - FLAT).max() <= 3

    @pytest.mark.parametrize('matrix', [8, 14])  # YCgCo, ICtCp
    def test_a_matrix_that_is_not_known_is_refused(self, tmp_path, matrix):
        path = write_plain(tmp_path / 'in.mkv', [FLAT] * 3, colorspace=matrix)
        assert f'in.mkv: uses colour matrix {matrix} of H.273, which is not supported' in refusal(path)

    def test_a_turned_video_is_upright(self, tmp_path):
        path = write_plain(tmp_path / 'in.mov', [frame(number) for number in range(3)])
        set_display_matrix(path, -1, 0, 0, 1, 64)
        (clip,) = find_clips(path, 'train')
        (read,) = clip.read([1])
        assert np.abs(read.astype(int) - frame(1)[:, ::-1]).mean() < 8
        set_display_matrix(path, 0, 1, -1, 0, 48)
        (clip,) = find_clips(path, 'train')
        assert clip.size == (64, 48)
        (read,) = clip.read([1])
        assert np.abs(read.astype(int) - np.rot90(frame(1), -1)).mean() < 8

    def test_ten_bits_become_eight(self, tmp_path):
        path = write_plain(tmp_path / 'in.mkv', [FLAT] * 3, codec='ffv1', pix_fmt='yuv444p10le', colorspace=1)
        (clip,) = find_clips(path, 'train')
        (read,) = clip.read([2])
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - FLAT).max() <= 2

    def test_a_size_that_changes_is_refused(self, tmp_path):
        parts = [
            write_plain(tmp_path / f'{height}.ts', [frame(number, height) for number in range(5)], codec='mpeg2video')
            for height in (48, 32)
        ]
        (tmp_path / 'in.ts').write_bytes(b''.join(part.read_bytes() for part in parts))
        assert 'in.ts, frame 5: changes its size from 64x48 to 64x32' in refusal(tmp_path / 'in.ts')

    def test_no_window_crosses_the_joint_of_two_recordings(self, tmp_path):
        """The pictures go on without a cut; a clock that starts again says that they need not."""
        parts = [
            write_plain(tmp_path / f'{first}.ts', [frame(first + number) for number in range(10)], codec='mpeg2video')
            for first in (0, 10)
        ]
        path, said = tmp_path / 'in.ts', []
        path.write_bytes(b''.join(part.read_bytes() for part in parts))
        (clip,) = find_clips(path, 'train', say=said.append)
        assert (clip.frames, clip.breaks) == (20, {10})
        assert f'{path}: its times jump at frame 10: joined recordings; no window crosses a joint' in said
        for number, read in enumerate(clip.read(range(20))):
            assert np.abs(read.astype(int) - frame(number)).mean() < 12
        settings = Settings(window=SubframeWindow(factor=4, length=9), stride=1, cut_threshold=None)
        made, left_out = [], []
        for run in plan_runs([clip], settings):
            *samples, result = run_outcomes(Work(run, frozenset()), settings, response('srgb'), interpolator('flow'))
            made += [sample.key for sample in samples]
            left_out += [centre for centre, cut in result.left_out if cut == 10]
        assert left_out == [9, 10]
        assert made == [f'in/{centre:08d}' for centre in range(1, 19) if centre not in left_out]

    def test_names_that_cannot_be_told_apart_are_refused(self, tmp_path):
        for name in ('one two.avi', 'one.two.avi'):
            write_video(tmp_path / name, 1)
        assert 'both clips would be called one_two' in refusal(tmp_path)


class TestReds:
    def test_zips_are_read_in_place_clips_may_be_spread_over_several(self, tmp_path):
        for clip in ('000', '001'):
            write_frames(tmp_path / 'train_orig' / clip, 4)
        first = lambda file: file.parent.name == '000' or file.stem < '00000002'  # noqa: E731
        parts = tmp_path / 'zips'
        zipped(tmp_path / 'train_orig', parts / 'train_orig_part0.zip', 'train/train_orig', first)
        zipped(
            tmp_path / 'train_orig', parts / 'train_orig_part1.zip', 'train/train_orig', lambda file: not first(file)
        )
        unpacked, archived = find_clips(tmp_path / 'train_orig', 'train'), find_clips(parts, 'train')
        assert [clip.name for clip in archived] == ['000', '001']
        for one, other in zip(unpacked, archived, strict=True):
            assert (one.frames, one.size, one.digest) == (other.frames, other.size, other.digest)
            for left, right in zip(one.read(range(4)), other.read(range(4)), strict=True):
                np.testing.assert_array_equal(left, right)

    def test_the_official_folders_are_found_from_above(self, tmp_path):
        write_frames(tmp_path / 'REDS' / 'train' / 'train_orig' / '007', 2)
        write_frames(tmp_path / 'REDS' / 'train' / 'train_sharp' / '007', 2)
        assert [clip.name for clip in find_clips(tmp_path, 'train')] == ['007']

    def test_faults_of_zips_are_named(self, tmp_path):
        orig = tmp_path / 'train_orig'
        write_frames(orig / '000', 5)
        parts = tmp_path / 'zips'
        whole = zipped(orig, parts / 'train_orig_part0.zip', 'train/train_orig')
        shutil.copy(whole, parts / 'train_orig_part0 (1).zip')
        assert 'is in' in refusal(parts)
        (parts / 'train_orig_part0 (1).zip').write_bytes(whole.read_bytes()[:3000])
        assert 'train_orig_part0 (1).zip: not a readable zip' in refusal(parts)
        (parts / 'train_orig_part0 (1).zip').unlink()
        whole.unlink()
        zipped(orig, whole, 'train/train_orig', lambda file: file.stem != '00000000')
        assert 'train_orig_part0.zip: 000: 1 frames are missing' in refusal(parts)


@pytest.mark.parametrize('ending', ['.jpg', '.png'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_frames_are_upright_by_their_exif_and_this_is_told(tmp_path, orientation, ending):
    """A camera writes how it was held; of a clip it may write it in some of the frames alone."""
    clip = tmp_path / 'clip'
    clip.mkdir()
    shown = [data.chelsea()[100 + 3 * number :, 80:][:64, :96] for number in range(4)]
    turned_back = {1: 0, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    for number, pixels in enumerate(shown):
        exif = Image.Exif()
        if number != 1 and orientation != 1:
            exif[ExifTags.Base.Orientation] = orientation
            pixels = upright(pixels, turned_back[orientation])
        settings = {'quality': 100, 'subsampling': 0} if ending == '.jpg' else {}
        Image.fromarray(np.ascontiguousarray(pixels)).save(clip / f'{number:03}{ending}', exif=exif, **settings)
    said = []
    (found,) = find_clips(clip, 'train', say=said.append)
    assert found.size == (64, 96)
    for pixels, expected in zip(found.read(range(4)), shown, strict=True):
        assert np.abs(pixels.astype(int) - expected).mean() < 2
    first = clip / f'000{ending}'
    text = f'{first}: 3 of 4 frames are stored turned, this the first: made upright by EXIF'
    assert said == ([] if orientation == 1 else [text])


def test_places_with_nothing_or_with_a_mixture_are_refused(tmp_path):
    assert 'no such file or folder' in refusal(tmp_path / 'nowhere')
    assert 'no clip here' in refusal(tmp_path)
    write_frames(tmp_path / 'clip', 2)
    write_video(tmp_path / 'pan.avi', 2)
    assert 'holds videos and folders of frames' in refusal(tmp_path)


class TestWhatIsNotThere:
    def test_a_hole_in_a_video_s_times_is_refused(self, tmp_path):
        """By the times alone: OpenCV writes no video of a changing rate."""
        steady = np.round(np.arange(60) * 1000 / 24)
        _refuse_holes(tmp_path / 'a.mp4', steady)
        _refuse_holes(tmp_path / 'a.avi', np.zeros(60))  # a container without times
        with pytest.raises(RequestError, match=r'a\.mp4: frame 29 lasts 375 ms, but frames are usually 42 ms apart'):
            _refuse_holes(tmp_path / 'a.mp4', np.delete(steady, slice(30, 38)))

    def test_fewer_frames_than_a_video_says_are_told(self, tmp_path):
        video = write_video(tmp_path / 'a.avi', 60)
        content = bytearray(video.read_bytes())
        lost = slice(int(0.4 * len(content)), int(0.55 * len(content)))
        content[lost] = bytes(lost.stop - lost.start)
        video.write_bytes(content)
        said = []
        (clip,) = find_clips(video, 'train', say=said.append)
        assert clip.frames < 60
        assert 'its header says 60' in said[0]
        assert 'lost inside the video' in said[0]

    def test_a_recording_behind_the_first_is_told(self, tmp_path):
        first = write_plain(tmp_path / 'a.mp4', [frame(number) for number in range(8)])
        size = first.stat().st_size
        said = []
        find_clips(first, 'train', say=said.append)
        assert said == []
        first.write_bytes(first.read_bytes() * 2)
        (clip,) = find_clips(first, 'train', say=said.append)
        assert clip.frames == 8
        (text,) = said
        assert text.startswith(f'{first}: {size:,} bytes of the file are left out: another recording')

    def test_a_missing_part_of_reds_is_refused(self, tmp_path):
        frames = tmp_path / 'frames'
        for clip in ('000', '001'):
            write_frames(frames / clip, 4)
        for part, clip in ((0, '000'), (2, '001')):
            zipped(frames, tmp_path / 'zips' / f'train_orig_part{part}.zip', 'train/train_orig',
                   lambda file, clip=clip: file.parent.name == clip)  # fmt: skip
        assert 'train_orig_part1.zip is missing, but later parts are here' in refusal(tmp_path / 'zips')

    def test_what_of_reds_is_here_is_told(self, tmp_path):
        for clip, count in (('000', 5), ('001', 5), ('002', 4)):
            write_frames(tmp_path / 'train' / 'train_orig' / clip, count)
        said = []
        assert len(find_clips(tmp_path, 'train', say=said.append)) == 3
        assert "3 of REDS's 240 clips, most of 5 frames" in said
        assert any(line.endswith('002: 4 frames, unlike the 5 of most clips') for line in said)
        (tmp_path / 'train' / 'train_orig' / '003').mkdir()
        assert '003: no frames in it' in refusal(tmp_path)

    def test_numbers_may_be_as_large_as_nanoseconds(self, tmp_path):
        write_frames(tmp_path / 'a', 1, first=1403636579763555584)
        write_frames(tmp_path / 'b', 1, first=1403636579813555584)
        shutil.move(next((tmp_path / 'b').iterdir()), tmp_path / 'a')
        assert '49999999 frames are missing' in refusal(tmp_path / 'a')

    def test_what_is_not_used_is_told(self, tmp_path):
        write_frames(tmp_path / 'a', 3)
        (tmp_path / 'clip.flv').write_bytes(b'')
        (tmp_path / 'b' / 'deeper').mkdir(parents=True)
        said = []
        find_clips(tmp_path, 'train', say=said.append)
        assert f'{tmp_path}: not used: b, clip.flv' in said

    def test_a_link_is_called_as_it_is_called(self, tmp_path):
        for name in ('alpha', 'beta'):
            frames = write_frames(tmp_path / f'{name}s' / 'frames', 3)
            (tmp_path / 'links').mkdir(exist_ok=True)
            (tmp_path / 'links' / name).symlink_to(frames)
        assert [clip.name for clip in find_clips(tmp_path / 'links', 'train')] == ['alpha', 'beta']

    def test_a_colon_in_a_video_s_name_is_no_protocol(self, tmp_path, monkeypatch):
        write_video(tmp_path / '12:30.avi', 3)
        monkeypatch.chdir(tmp_path)
        assert find_clips('12:30.avi', 'train')[0].frames == 3
