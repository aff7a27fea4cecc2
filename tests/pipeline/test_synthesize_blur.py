"""scripts/synthesize_blur.py: what it makes, that kills and shards change nothing, and what it refuses."""

import json
import random
import runpy
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthesis_kills as kills
from skimage import data
from video_files import interlaced_view, make_interlaced, view

from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import FrameStoreWriter, read_checksums
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.option_schema.option_file import load_option_file
from pdan_plugin.option_schema.shipped_options import find_option_file
from pdan_plugin.preparation.synthesis_record import Progress
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.synthesis.camera_response import response

QUICK = ('--factor', '4', '--window', '9')
SHARP, BLURRED, SHARP_SMALL = (f'train_{kind}.lmdb' for kind in ('sharp', 'blur_bicubic_x4', 'sharp_bicubic_x4'))


@pytest.fixture
def synthesize(capsys):
    """The script's main, in this process and with one worker: arguments in, (exit status, all it printed) out."""
    main = runpy.run_path(str(kills.SCRIPT))['main']

    def run(*words):
        given = [str(word) for word in words]
        try:
            status = main(given if '--merge' in given else [*given, '--workers', '1'])
        except SystemExit as ended:
            status = ended.code
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Three clips of 62 frames, with a scene cut in the second."""
    return kills.make_clips(tmp_path_factory.mktemp('source') / 'clips', 3, 62)


@pytest.fixture(scope='module')
def whole(clips, tmp_path_factory):
    """What an uninterrupted call makes of them."""
    target = tmp_path_factory.mktemp('whole')
    assert runpy.run_path(str(kills.SCRIPT))['main']([str(clips), str(target), *QUICK, '--workers', '1']) == 0
    return target


def refused(synthesize, source, target, *options):
    """What it says; it must exit 2 and leave no store in place."""
    status, said = synthesize(source, target, *QUICK, *options)
    assert status == 2, said
    assert not list(Path(target).rglob('*.lmdb')), said
    return said


def stop_at_the_end(patched, renamed):
    """Ctrl-C when so many stores have been put in place, or before the record is."""
    finish, finished = FrameStoreWriter.finish, []

    def stopping(writer):
        if len(finished) == renamed:
            raise KeyboardInterrupt
        finished.append(writer)
        finish(writer)

    def stop(*_):
        raise KeyboardInterrupt

    patched.setattr(FrameStoreWriter, 'finish', stopping)
    patched.setattr(Progress, 'finish', stop)


class TestWhatItMakes:
    @pytest.mark.parametrize('name', ['linear', 'srgb'])
    def test_a_pan_of_known_speed_becomes_its_box_blur(self, tmp_path, synthesize, name):
        """65 sub-frames of x16 frames, a photograph moving 3 pixels a frame: a box of 65 / 16 * 3 pixels."""
        speed, height, width, centre = 3, 128, 192, 2
        photo = cv2.GaussianBlur(data.astronaut(), (0, 0), 1)[140:268, 40:300]
        for number in range(5):
            (tmp_path / 'pan').mkdir(exist_ok=True)
            frame = photo[:, speed * number : speed * number + width, ::-1]
            cv2.imwrite(str(tmp_path / 'pan' / f'{number:08d}.png'), frame)
        status, said = synthesize(tmp_path / 'pan', tmp_path / 'out', '--response', name)
        assert status == 0, said

        camera = response(name)
        light = camera.to_linear(np.ascontiguousarray(photo)).astype(np.float64)
        fine = 1600  # positions of the shutter; the photograph is linear between its pixels
        box = np.zeros((height, width, 3))
        for offset in (np.arange(fine) + 0.5) / fine * speed * 65 / 16 - speed * 65 / 32:
            left, part = divmod(speed * centre + offset + 20, 1)
            padded = np.pad(light, ((0, 0), (20, 20), (0, 0)), 'edge')[:, int(left) :]
            box += (1 - part) * padded[:, :width] + part * padded[:, 1 : width + 1]
        expected = camera.from_linear(box / fine)
        sharp = np.ascontiguousarray(photo[:, speed * centre :][:, :width])

        key = f'pan/{centre:08d}'
        np.testing.assert_array_equal(FrameStore(tmp_path / 'out' / SHARP).read(key), sharp)
        small = FrameStore(tmp_path / 'out' / BLURRED).read(key)
        inside = np.s_[:, 5:-5]  # what enters at the sides cannot be known from the frames
        error = (small.astype(float) - downsample_uint8(expected, 4))[inside]
        unblurred = (downsample_uint8(sharp, 4).astype(float) - downsample_uint8(expected, 4))[inside]
        print(f'{name}: error {error.std():.3f}, largest {np.abs(error).max()}; unblurred {unblurred.std():.2f}')
        assert error.std() < 0.8
        assert np.abs(error).max() <= 8
        assert unblurred.std() > 8  # without any blur the error would be this large

    @pytest.mark.parametrize('order', ['tff', 'bff'])
    def test_an_interlaced_video_becomes_its_progressive_pictures(self, tmp_path, synthesize, order):
        """Two fields of different times make each frame; the ground truth is what the first field shows."""
        path = make_interlaced(tmp_path / 'dv.mpg', [order] * 10)
        status, said = synthesize(path, tmp_path / 'out', *QUICK, '--no-cuts')
        assert status == 0, said
        assert f'{path}: 10 of 10 frames are interlaced: deinterlaced, one frame for each' in said
        store = FrameStore(tmp_path / 'out' / SHARP)
        assert len(store.keys) == 2
        for key in store.keys:
            number = int(key.partition('/')[2])
            picture = store.read(key).astype(int)
            assert np.abs((picture - view(4 * number)).mean(-1)).mean() < 7
            assert np.abs((picture - interlaced_view(number, order)).mean(-1)).mean() > 10

    def test_the_stores_train_and_hold_what_they_are_called(self, whole):
        dataset = REDSPairedDataset(
            {
                'name': 'synthesised',
                'phase': 'train',
                'scale': 4,
                'gt_size': 32,
                'io_backend': {'type': 'lmdb'},
                'dataroot_gt': str(whole / SHARP),
                'dataroot_lq': str(whole / BLURRED),
                'dataroot_lq_sharp': str(whole / SHARP_SMALL),
            }
        )
        assert tuple(dataset[3]['gt'].shape) == (3, 32, 32)
        sharp, small = FrameStore(whole / SHARP), FrameStore(whole / SHARP_SMALL)
        for key in sharp.keys:
            np.testing.assert_array_equal(small.read(key), downsample_uint8(sharp.read(key), 4))

    def test_the_record_says_what_was_done_and_what_was_left_out(self, whole):
        record = json.loads((whole / 'synthesis.json').read_text())
        assert record['settings']['window'] == 9
        assert record['settings']['interpolator']['name'] == 'flow'
        assert record['frames'] == len(FrameStore(whole / SHARP).keys) == 35
        cut = record['sources']['001']
        assert (cut['frames'], cut['made'], cut['windows']) == (62, 11, 12)
        assert cut['cuts'] == ['00000032']
        assert cut['left_out'] == {'00000031': 'scene cut at 00000032'}
        assert record['sources']['000']['cuts'] == []

    def test_a_ground_truth_keeps_its_key_and_its_bytes_in_every_plan(self, tmp_path, clips, whole, synthesize):
        assert synthesize(clips / '000', tmp_path / 'out', *QUICK, '--stride', 4, '--phases', 3)[0] == 0
        for name in (SHARP, BLURRED, SHARP_SMALL):
            one, other = kills.values(whole / name), kills.values(tmp_path / 'out' / name)
            both = set(one) & set(other)
            assert len(both) >= 8
            assert all(one[key] == other[key] for key in both)

    def test_it_tells_leftovers_cropping_and_the_next_command(self, tmp_path, synthesize):
        source = tmp_path / 'my clip.1'
        source.mkdir()
        for number in range(1, 8):
            cv2.imwrite(str(source / f'{number}.png'), data.coffee()[:50, number : 67 + number, ::-1])
        status, said = synthesize(source, tmp_path / 'out', *QUICK, '--codec', 'png')
        assert status == 0, said
        assert f'{source}: the last 2 of its 7 frames fill no window' in said
        assert f'{source}: 67x50 is cut at the right and the bottom to 64x48' in said
        assert 'Next: basicsr check -opt pdan_phase3' in said
        (line,) = [each for each in said.splitlines() if each.startswith('It reads datasets/synthesised. ')]
        overrides = shlex.split(line.partition('--force_yml')[2])
        options = load_option_file(find_option_file('pdan_phase3'), overrides).options['datasets']['train']
        assert options['sources'][0]['dataroot_gt'] == 'datasets/REDS/train_sharp.lmdb'
        assert options['sources'][1]['dataroot_gt'] == str(tmp_path / 'out' / SHARP)
        store = FrameStore(tmp_path / 'out' / SHARP)
        assert (store.keys, store.codec) == (['my_clip_1/00000002'], 'png')
        np.testing.assert_array_equal(store.read('my_clip_1/00000002'), data.coffee()[:48, 2:66])


class TestInterruption:
    @pytest.mark.parametrize(
        'moments',
        [
            [('commit', False)],
            pytest.param([('begin', True), ('commit', True), ('commit', False)], marks=pytest.mark.long),
        ],
        ids=['once', 'three times'],
    )
    def test_killed_it_ends_with_the_same_bytes(self, tmp_path, clips, whole, synthesize, moments):
        draw, target, output = random.Random(1), tmp_path / 'killed', tmp_path / 'output.txt'
        for moment, alone in moments:
            assert kills.kill(clips, target, output, moment, draw, alone, QUICK), output.read_text()[-2000:]
            assert not list(target.glob('*.lmdb'))
        kept = len(read_checksums(target / f'{SHARP}.partial'))
        assert kept > 0
        status, said = synthesize(clips, target, *QUICK)
        assert status == 0, said
        assert kills.differences(whole, target) == []

    @pytest.mark.parametrize(
        'renamed',
        # none and all of the stores put in place; the steps between repeat it
        [0, *(pytest.param(number, marks=pytest.mark.long) for number in (1, 2)), 3],
    )
    def test_stopped_between_its_last_steps_it_goes_on(self, tmp_path, clips, whole, synthesize, monkeypatch, renamed):
        with monkeypatch.context() as patched:
            stop_at_the_end(patched, renamed)
            assert synthesize(clips, tmp_path / 'out', *QUICK)[0] == 130
        assert len(list((tmp_path / 'out').glob('*.lmdb'))) == renamed
        status, said = synthesize(clips, tmp_path / 'out', *QUICK)
        assert status == 0, said
        assert kills.differences(whole, tmp_path / 'out') == []

    def test_a_second_call_says_it_is_complete_other_settings_are_refused(self, clips, whole, synthesize):
        before = (whole / 'synthesis.json').read_bytes()
        status, said = synthesize(clips, whole, *QUICK)
        assert status == 0
        assert 'already complete, kept' in said
        status, said = synthesize(clips, whole, *QUICK, '--stride', 4, '--response', 'gamma')
        assert status == 2
        assert 'stride was 5, now 4' in said
        assert 'response.name was "srgb", now "gamma"' in said
        assert 'window was' not in said
        assert (whole / 'synthesis.json').read_bytes() == before

    def test_an_unfinished_one_is_not_gone_on_with_otherwise(self, tmp_path, clips, synthesize, monkeypatch):
        with monkeypatch.context() as patched:
            stop_at_the_end(patched, 0)
            assert synthesize(clips / '000', tmp_path / 'out', *QUICK)[0] == 130
        assert 'window was 9, now 17' in refused(synthesize, clips / '000', tmp_path / 'out', '--window', 17)
        assert 'sources.001 is new' in refused(synthesize, clips, tmp_path / 'out')


class TestShards:
    def test_merged_they_are_what_one_call_makes(self, tmp_path, clips, whole, synthesize, monkeypatch):
        target = tmp_path / 'out'
        for number in (1, 2, 3):
            assert synthesize(clips, target, *QUICK, '--shard', f'{number}/3')[0] == 0
        shards = [read_checksums(target / f'shard_{number}_of_3' / SHARP).keys() for number in (1, 2, 3)]
        assert all(shards)
        assert not set.intersection(*map(set, shards))
        with monkeypatch.context() as patched:
            stop_at_the_end(patched, 1)
            assert synthesize(target, '--merge')[0] == 130
        status, said = synthesize(target, '--merge')
        assert status == 0, said
        assert kills.differences(whole, target) == []
        assert 'shards are still there' in said
        assert synthesize(target, '--merge')[0] == 0
        assert 'already complete' in synthesize(clips, target, *QUICK)[1]

    def test_missing_unlike_and_damaged_shards_are_named(self, tmp_path, clips, whole, synthesize):
        target = tmp_path / 'out'
        assert 'no shards here' in refused_merge(synthesize, target)
        assert synthesize(clips, target, *QUICK, '--shard', '1/2')[0] == 0
        assert '1 shards are not finished; run --shard 2/2' in refused_merge(synthesize, target)
        assert synthesize(clips, target, *QUICK, '--shard', '2/2', '--response', 'linear')[0] == 0
        assert 'shard_2_of_2 differs from shard_1_of_2: response.name was "srgb"' in refused_merge(synthesize, target)
        shutil.rmtree(target / 'shard_2_of_2')
        assert synthesize(clips, target, *QUICK, '--shard', '2/2')[0] == 0
        store = target / 'shard_2_of_2' / BLURRED / 'data.mdb'
        content = bytearray(store.read_bytes())
        key, value = kills.values(store.parent).popitem()
        content[content.index(value) + len(value) // 2] ^= 1
        whole_store = store.read_bytes()
        store.write_bytes(content)
        status, said = synthesize(target, '--merge')
        assert status == 1
        assert f'shard_2_of_2: frame {key.decode()!r} of blur_bicubic is damaged' in said
        store.write_bytes(whole_store)
        assert synthesize(target, '--merge')[0] == 0
        assert kills.differences(whole, target) == []

    def test_shards_that_cannot_be_are_refused(self, tmp_path, clips, synthesize):
        assert 'must lie between 1' in refused(synthesize, clips, tmp_path / 'out', '--shard', '3/2')
        assert 'use fewer shards' in refused(synthesize, clips, tmp_path / 'out', '--shard', '1/1000')


def refused_merge(synthesize, target):
    status, said = synthesize(target, '--merge')
    assert status == 2, said
    assert not list(Path(target).glob('*.lmdb'))
    return said


class TestRefusals:
    def test_settings_that_make_no_sense(self, tmp_path, clips, synthesize):
        for option, value, word in (
            ('--window', 64, 'must be odd'),
            ('--factor', 0, 'expected a whole number, 1 or more'),
            ('--phases', 6, 'phases must lie between 1 and the stride'),
            ('--cut-threshold', 2, 'expected a number from 0 to 1'),
            ('--response', tmp_path / 'no.npy', 'no.npy'),
        ):
            assert word in refused(synthesize, clips, tmp_path / 'out', option, value)
        assert not (tmp_path / 'out').exists()

    def test_clips_shorter_than_the_window(self, tmp_path, clips, synthesize):
        source = tmp_path / 'clips'
        kills.make_clips(source, 1, 4)
        said = refused(synthesize, source, tmp_path / 'out', '--window', 33)
        assert 'a window of 33 sub-frames at x4 needs 9 source frames' in said
        assert '000 has 4; choose a smaller --window' in said
        shutil.copytree(clips / '001', source / '001')
        assert 'or add --skip-short' in refused(synthesize, source, tmp_path / 'out', '--window', 33)
        assert not (tmp_path / 'out').exists()
        status, said = synthesize(source, tmp_path / 'out', *QUICK, '--window', 33, '--skip-short')
        assert status == 0
        assert '000: 4 frames, fewer than the 9 of a window; left out' in said
        record = json.loads((tmp_path / 'out' / 'synthesis.json').read_text())
        assert record['sources']['000']['unused'] == 'shorter than a window'

    def test_a_damaged_frame_stops_its_store_and_mending_it_is_enough(self, tmp_path, clips, whole, synthesize):
        source = shutil.copytree(clips, tmp_path / 'clips')
        damaged = [source / clip / '00000032.png' for clip in ('000', '002')]
        for file in damaged:
            file.write_bytes(file.read_bytes()[:2000])
        said = refused(synthesize, source, tmp_path / 'out')
        assert all(f'{file}: is a truncated PNG' in said for file in damaged)
        for file in damaged:
            shutil.copy(clips / file.relative_to(source), file)
        status, said = synthesize(source, tmp_path / 'out', *QUICK)
        assert status == 0, said
        assert kills.differences(whole, tmp_path / 'out') == []

    def test_bad_sources_before_anything_is_written(self, tmp_path, clips, synthesize):
        source = shutil.copytree(clips, tmp_path / 'clips')
        (source / '000' / '00000007.png').unlink()
        assert '000: 1 frames are missing' in refused(synthesize, source, tmp_path / 'out')
        (tmp_path / 'train_orig_part0.zip').write_bytes(b'PK nothing')
        assert 'not a readable zip' in refused(synthesize, tmp_path / 'train_orig_part0.zip', tmp_path / 'out')
        assert 'no such file or folder' in refused(synthesize, tmp_path / 'nowhere.mp4', tmp_path / 'out')
        assert not (tmp_path / 'out').exists()

    def test_too_little_room(self, tmp_path, clips, synthesize, monkeypatch):
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=300_000))
        said = refused(synthesize, clips, tmp_path / 'out')
        assert 'the stores need 1.0 MB, but only 0.3 MB are free' in said
        assert not (tmp_path / 'out').exists()

    def test_stores_of_something_else_are_not_touched(self, tmp_path, clips, synthesize):
        with FrameStoreWriter(tmp_path / 'out' / SHARP) as writer:
            writer.add('000/00000000', np.zeros((8, 8, 3), np.uint8))
            writer.finish()
        status, said = synthesize(clips, tmp_path / 'out', *QUICK)
        assert status == 2
        assert 'holds train_sharp.lmdb and no synthesis.json' in said
        assert FrameStore(tmp_path / 'out' / SHARP).keys == ['000/00000000']

    def test_nothing_but_cuts(self, tmp_path, clips, synthesize):
        source = tmp_path / 'clip'
        source.mkdir()
        for number in range(3):
            shutil.copy(clips / f'00{number}' / '00000010.png', source / f'{number}.png')
        assert 'every window touches a scene cut' in refused(synthesize, source, tmp_path / 'out')
        assert synthesize(source, tmp_path / 'other', *QUICK, '--no-cuts')[0] == 0

    def test_words_that_would_do_nothing(self, tmp_path, clips, synthesize):
        status, said = synthesize(clips, tmp_path / 'out', '--merge', '--window', 33)
        assert status == 2
        assert '--merge takes only TARGET; leave out source, window' in said

    def test_options_may_stand_between_source_and_target(self, tmp_path, clips, synthesize):
        status, said = synthesize(tmp_path / 'nowhere', *QUICK, tmp_path / 'out')
        assert (status, 'no such file or folder' in said) == (2, True)
