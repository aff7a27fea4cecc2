"""Size, format, quality, codec, part and name of the results of `restore`, on real files; and what is refused."""

import json
import os
from fractions import Fraction

import av
import numpy as np
import pytest
from folder_contents import names_in
from PIL import Image
from repeating_network import make_weights
from skimage import data
from video_files import add_tones, make_interlaced, view, write_tones

from pdan_plugin.errors import RequestError
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_format import PictureFormat
from pdan_plugin.media.pyav import chapters_of, set_chapters
from pdan_plugin.media.resampling import resampled
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import VideoCoding
from pdan_plugin.restoration import restore_path

PHOTO = np.ascontiguousarray(data.astronaut()[100:140, 200:230])  # (40, 30, 3)
RATE, FRAMES = 12, 24


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp('weights'), 'repeating', upscale=4)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / 'photo.png')
    return tmp_path / 'photo.png'


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """Two seconds with a tone; each frame shows another part of a photograph."""
    path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('libx264', rate=RATE, options={'crf': '1'})
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        tones = add_tones(output, 1, FRAMES / RATE)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(view(number), format='rgb24')
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        write_tones(output, tones)
    return path


def larger(pixels, times=4):
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        (ResultSize(scale=2), (80, 60)),
        (ResultSize(scale=1), (40, 30)),
        (ResultSize(width=100), (133, 100)),
        (ResultSize(height=100), (100, 75)),
        (ResultSize(width=90, height=50), (50, 90)),
        (ResultSize(scale=5), (200, 150)),
    ],
)
def test_the_network_s_output_is_resampled_to_the_size(weights, photo, tmp_path, size, expected):
    assert restore_path(photo, tmp_path / 'out', weights, results=ResultSettings(size=size)) == 0
    found = np.asarray(Image.open(tmp_path / 'out/photo.png'))
    np.testing.assert_array_equal(found, resampled(larger(PHOTO), expected))


def test_a_size_that_is_the_network_s_changes_nothing(weights, photo, tmp_path):
    restore_path(photo, tmp_path / 'out', weights, results=ResultSettings(size=ResultSize(width=120, height=160)))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out/photo.png')), larger(PHOTO))


def test_16_bits_and_transparency_keep_their_kind_at_another_size(weights, tmp_path):
    deep = PHOTO[..., 0].astype(np.uint16) * 257
    (tmp_path / 'in').mkdir()
    Image.fromarray(deep).save(tmp_path / 'in/deep.png')
    Image.fromarray(np.dstack([PHOTO, PHOTO[..., 1]])).save(tmp_path / 'in/glass.png')
    assert restore_path(tmp_path / 'in', tmp_path / 'out', weights, results=ResultSettings(ResultSize(scale=2))) == 0
    found = read_picture(tmp_path / 'out/deep.png')
    assert (found.bits, found.is_grey, found.colour.shape) == (16, True, (80, 60, 3))
    np.testing.assert_array_equal(found.colour[..., 0], resampled(larger(deep), (80, 60)))
    glass = read_picture(tmp_path / 'out/glass.png')
    assert glass.alpha.shape == (80, 60)
    assert (
        np.abs(glass.alpha[4:-4, 4:-4].astype(int) - resampled(larger(PHOTO[..., 1]), (80, 60))[4:-4, 4:-4]).max() < 40
    )


def test_a_turned_photograph_is_measured_as_it_is_shown(weights, tmp_path):
    image = Image.fromarray(PHOTO)  # 30 wide, shown 40 wide
    exif = image.getexif()
    exif[0x0112] = 6
    for name in ('turned.jpg', 'turned.png', 'turned.tif', 'turned.webp'):
        image.save(tmp_path / name, exif=exif)
        with pytest.raises(RequestError, match=f'{name} has 40x30 pixels'):
            restore_path(tmp_path / name, tmp_path / 'out', weights, results=ResultSettings(ResultSize(width=39)))
        settings = ResultSettings(ResultSize(width=80), suffix=name.replace('.', '_'))
        assert restore_path(tmp_path / name, tmp_path / 'out', weights, results=settings) == 0
    assert {Image.open(path).size for path in (tmp_path / 'out').glob('*.png')} == {(80, 60)}
    assert len(list((tmp_path / 'out').glob('*.png'))) == 4


@pytest.mark.parametrize(
    ('form', 'kind', 'is_exact'),
    [
        (PictureFormat('png'), 'PNG', True),
        (PictureFormat('png', lossless=True), 'PNG', True),
        (PictureFormat('tiff'), 'TIFF', True),
        (PictureFormat('webp'), 'WEBP', True),
        (PictureFormat('webp', lossless=True), 'WEBP', True),
        (PictureFormat('webp', quality=50), 'WEBP', False),
        (PictureFormat('jpg'), 'JPEG', False),
        (PictureFormat('avif'), 'AVIF', False),
    ],
)
def test_the_format_of_a_folder_of_results(weights, photo, tmp_path, form, kind, is_exact):
    if kind == 'AVIF' and 'AVIF' not in (Image.init(), Image.SAVE)[1]:
        pytest.skip('this Pillow has no AVIF')
    settings = ResultSettings(picture=form, suffix='_x4')
    assert restore_path(photo, tmp_path / 'out', weights, results=settings) == 0
    (path,) = (tmp_path / 'out').glob('photo_x4.*')
    assert path.suffix == form.ending
    with Image.open(path) as image:
        assert image.format == kind
        found = np.asarray(image.convert('RGB')).astype(int)
    difference = np.abs(found - larger(PHOTO))
    assert difference.max() == 0 if is_exact else 0 < difference.mean() < 12


@pytest.mark.parametrize('name', ['jpg', 'webp', 'avif'])
def test_quality_decides_how_large_a_file_is(weights, photo, tmp_path, name):
    if name == 'avif' and 'AVIF' not in (Image.init(), Image.SAVE)[1]:
        pytest.skip('this Pillow has no AVIF')
    sizes = []
    for quality in (20, 60, 95):
        target = tmp_path / f'{quality}.{name}'
        settings = ResultSettings(picture=PictureFormat(None, quality))
        assert restore_path(photo, target, weights, results=settings) == 0
        sizes.append(target.stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[2] > 1.5 * sizes[0]


def test_another_setting_is_not_taken_for_done(weights, photo, clip, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    photo.rename(folder / 'photo.png')
    (folder / 'clip.mp4').write_bytes(clip.read_bytes())
    settings = {
        'scale': ResultSettings(size=ResultSize(scale=2)),
        'size': ResultSettings(size=ResultSize(width=200)),
        'crf': ResultSettings(video=VideoCoding(crf=40)),
        'codec': ResultSettings(video=VideoCoding('h265', preset='ultrafast')),
        'frames': ResultSettings(frames=FrameRange(0, 2)),
    }
    out = tmp_path / 'out'
    assert restore_path(folder, out, weights) == 0
    recorded = json.loads((out / 'restore.json').read_text())['runs'][0]['settings']
    assert not {'scale', 'size', 'crf', 'codec', 'frames', 'local_pooling'} & set(
        recorded
    )  # as earlier versions wrote it
    for name, each in settings.items():
        with pytest.raises(RequestError, match=rf'made with other settings, .*{name}: null there'):
            restore_path(folder, out, weights, results=each)
        with pytest.raises(RequestError, match='other settings'):
            restore_path(folder, out, weights, results=each, dry_run=True)
    with pytest.raises(RequestError, match='local_pooling: null there, 96 now'):
        restore_path(folder, out, weights, local_pooling=96)
    # another format has other names
    assert restore_path(folder / 'photo.png', out, weights, results=ResultSettings(picture=PictureFormat('webp'))) == 0
    assert names_in(out) == ['clip.mp4', 'photo.png', 'photo.webp', 'restore.json']
    assert restore_path(folder, out, weights, results=settings['scale'], overwrite=True) == 0
    assert Image.open(out / 'photo.png').size == (60, 80)
    before = (out / 'photo.png').stat().st_mtime_ns
    assert restore_path(folder, out, weights, results=settings['scale']) == 0
    assert (out / 'photo.png').stat().st_mtime_ns == before


def test_auto_keeps_the_precision_of_the_results_that_are_there(weights, photo, tmp_path, capsys, monkeypatch):
    """A mock of a processor with bfloat16, which continues what another machine began."""
    assert restore_path(photo, tmp_path / 'out', weights, precision='fp32', device='cpu') == 0
    monkeypatch.setattr('pdan_plugin.machine.precision.about_processor', lambda key: 'amx_bf16')
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda name: 0.3)
    capsys.readouterr()
    assert restore_path(photo, tmp_path / 'out', weights, device='cpu') == 0
    assert 'Precision: fp32 on cpu (as the results that are there already)' in capsys.readouterr().out
    assert restore_path(photo, tmp_path / 'new', weights, device='cpu') == 0
    assert 'Precision: bf16 on cpu (this processor has instructions for it, amx_bf16)' in capsys.readouterr().out
    (run,) = json.loads((tmp_path / 'new/restore.json').read_text())['runs']
    assert run['settings']['precision'] == 'bf16'


def frames_of(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [(frame.time, frame.to_ndarray(format='rgb24')) for frame in container.decode(stream)]
        return stream.codec_context.name, [time for time, _ in decoded], [pixels for _, pixels in decoded]


def sound_of(path):
    """(first time, end) of the sound, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        base = float(stream.time_base)
        return packets[0].pts * base, (packets[-1].pts + packets[-1].duration) * base


@pytest.mark.parametrize(('codec', 'name'), [('h264', 'h264'), ('h265', 'hevc'), ('av1', 'av1')])
@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_videos_of_every_codec(weights, clip, tmp_path, codec, name, ending):
    preset = '10' if codec == 'av1' else 'ultrafast'
    settings = ResultSettings(ResultSize(scale=2), video=VideoCoding(codec, 12, preset), frames=FrameRange(0, 4))
    target = tmp_path / f'out{ending}'
    assert restore_path(clip, target, weights, results=settings) == 0
    found, times, pictures = frames_of(target)
    assert name in found.replace('libdav1d', 'av1')
    assert times == pytest.approx([number / RATE for number in range(4)], abs=0.002)
    assert pictures[3].shape == (96, 128, 3)
    assert np.abs(pictures[3].astype(int) - resampled(larger(view(3)), (96, 128))).mean() < 6


def test_crf_and_preset_reach_the_encoder(weights, clip, tmp_path):
    sizes = []
    for crf in (45, 25, 5):
        target = tmp_path / f'{crf}.mp4'
        settings = ResultSettings(video=VideoCoding(crf=crf, preset='ultrafast'), frames=FrameRange(0, 6))
        assert restore_path(clip, target, weights, results=settings) == 0
        sizes.append(target.stat().st_size)
    assert sizes == sorted(sizes)
    slow = ResultSettings(video=VideoCoding(crf=25, preset='slower'), frames=FrameRange(0, 6))
    assert restore_path(clip, tmp_path / 'slow.mp4', weights, results=slow) == 0
    assert (tmp_path / 'slow.mp4').stat().st_size < sizes[1]


@pytest.mark.parametrize(
    ('frames', 'first', 'count'),
    [(FrameRange(6, 18), 6, 12), (FrameRange(0, 5), 0, 5), (FrameRange(20), 20, 4), (FrameRange(23, 24), 23, 1)],
)
def test_a_part_of_a_video_with_its_sound(weights, clip, tmp_path, frames, first, count):
    settings = ResultSettings(video=VideoCoding(preset='ultrafast'), frames=frames)
    assert restore_path(clip, tmp_path / 'part.mp4', weights, results=settings) == 0
    _, times, pictures = frames_of(tmp_path / 'part.mp4')
    assert times == pytest.approx([number / RATE for number in range(count)], abs=0.002)
    assert np.abs(pictures[0].astype(int) - larger(view(first))).mean() < 6
    start, end = sound_of(tmp_path / 'part.mp4')
    packet = 1024 / 48000
    assert 0 <= start <= packet
    assert end == pytest.approx(count / RATE, abs=1.5 * packet)


def test_a_part_of_an_interlaced_video(weights, tmp_path):
    make_interlaced(tmp_path / 'fields.mkv', ['tff'] * 6)
    settings = ResultSettings(video=VideoCoding(crf=5, preset='ultrafast'), frames=FrameRange(2, 5))
    assert restore_path(tmp_path / 'fields.mkv', tmp_path / 'whole.mkv', weights) == 0
    assert restore_path(tmp_path / 'fields.mkv', tmp_path / 'part.mkv', weights, results=settings) == 0
    whole, part = (frames_of(tmp_path / name)[2] for name in ('whole.mkv', 'part.mkv'))
    assert len(part) == 3
    for one, other in zip(whole[2:5], part, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 3


@pytest.mark.skipif(not hasattr(av.container.OutputContainer, 'set_chapters'), reason='this PyAV knows no chapters')
def test_chapters_of_a_part(weights, tmp_path):
    with av.open(str(tmp_path / 'long.mkv'), 'w') as output:
        stream = output.add_stream('libx264', rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        chapters = [('a', 0, 500), ('b', 500, 1000), ('c', 1000, 2000)]
        set_chapters(
            output,
            [
                {'id': id_, 'start': start, 'end': end, 'time_base': Fraction(1, 1000), 'metadata': {'title': name}}
                for id_, (name, start, end) in enumerate(chapters)
            ],
        )
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(view(number), format='rgb24')
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    settings = ResultSettings(video=VideoCoding(preset='ultrafast'), frames=FrameRange(9, 18))  # 0.75 s to 1.5 s
    assert restore_path(tmp_path / 'long.mkv', tmp_path / 'cut.mkv', weights, results=settings) == 0
    with av.open(str(tmp_path / 'cut.mkv')) as container:
        found = chapters_of(container)
        times = [float(each['start'] * each['time_base']) for each in found]
        assert [each['metadata']['title'] for each in found] == ['b', 'c']
        assert times == pytest.approx([0, 0.25], abs=0.01)


def test_frames_behind_the_end(weights, clip, tmp_path, capsys):
    behind = ResultSettings(frames=FrameRange(FRAMES))
    assert restore_path(clip, tmp_path / 'out.mp4', weights, results=behind) == 1
    assert not (tmp_path / 'out.mp4').exists()
    assert f'has {FRAMES} frames, and frames {FRAMES}: are none of them' in capsys.readouterr().err
    over = ResultSettings(frames=FrameRange(22, 100), video=VideoCoding(preset='ultrafast'))
    assert restore_path(clip, tmp_path / 'out.mp4', weights, results=over) == 0
    assert f'it has {FRAMES} frames: frames 22:{FRAMES} are restored' in capsys.readouterr().out
    assert len(frames_of(tmp_path / 'out.mp4')[1]) == 2


def test_a_dry_run_lists_what_a_run_writes_and_writes_nothing(weights, photo, clip, tmp_path, capsys):
    folder = tmp_path / 'in'
    (folder / 'sub').mkdir(parents=True)
    photo.rename(folder / 'sub/photo.png')
    (folder / 'clip.mp4').write_bytes(clip.read_bytes())
    settings = ResultSettings(
        ResultSize(height=150), PictureFormat('jpg'), VideoCoding('h265', 20, 'ultrafast'), suffix='_r'
    )
    out = tmp_path / 'out'
    before = names_in(tmp_path)
    assert restore_path(folder, out, weights, results=settings, dry_run=True) == 0
    assert names_in(tmp_path) == before
    assert not out.exists()
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f'{out / "clip_r.mp4"}: 64x48 -> 200x150, about 24 frames, h265 at crf 20',
        f'{out / "sub/photo_r.jpg"}: 30x40 -> 113x150',
        'Dry run: 2 to restore; nothing was written.',
    ]
    assert restore_path(folder, out, weights, results=settings) == 0
    assert names_in(out) == ['clip_r.mp4', 'restore.json', 'sub/photo_r.jpg']
    assert Image.open(out / 'sub/photo_r.jpg').size == (113, 150)
    assert frames_of(out / 'clip_r.mp4')[2][0].shape == (150, 200, 3)
    record = (out / 'restore.json').read_bytes()
    capsys.readouterr()
    os.utime(folder / 'clip.mp4', (2e9, 2e9))  # changed since
    assert restore_path(folder, out, weights, results=settings, dry_run=True) == 0
    told = capsys.readouterr().out
    assert 'photo_r.jpg: 30x40 -> 113x150 (already done with the same settings)' in told
    assert 'Dry run: 1 to restore, 1 already done' in told
    assert (out / 'restore.json').read_bytes() == record


def test_a_dry_run_says_what_will_fail(weights, photo, tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    photo.rename(tmp_path / 'in/a.png')
    Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257).save(tmp_path / 'in/deep.png')
    (tmp_path / 'in/text.png').write_text('no picture')
    settings = ResultSettings(picture=PictureFormat('jpg'))
    for dry_run in (True, False):
        assert restore_path(tmp_path / 'in', tmp_path / 'out', weights, results=settings, dry_run=dry_run) == 1
        told = capsys.readouterr().err
        assert 'deep.png: .jpg holds 8 bits per channel, but the picture has 16' in told
        assert 'text.png: cannot be decoded' in told
    assert names_in(tmp_path / 'out') == ['a.jpg', 'restore.json']


def test_wrong_requests_name_what_is_wrong_and_write_nothing(weights, photo, clip, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    Image.fromarray(PHOTO).save(folder / 'small.png')
    Image.fromarray(np.tile(PHOTO, (5, 5, 1))).save(folder / 'wide.png')
    Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257).save(tmp_path / 'deep.png')
    Image.fromarray(np.dstack([PHOTO, PHOTO[..., 0]])).save(tmp_path / 'glass.png')
    before = names_in(tmp_path)
    out = tmp_path / 'out'
    for source, target, settings, complaint in [
        (photo, out, ResultSettings(ResultSize(width=29)), r'--size 29x: .*photo\.png has 30x40 pixels'),
        (folder, out, ResultSettings(ResultSize(width=140, height=400)), r'--size 140x400: .*wide\.png has 150x200'),
        (clip, out, ResultSettings(ResultSize(height=151)), 'videos need an even'),
        (tmp_path / 'deep.png', out, ResultSettings(picture=PictureFormat('jpg')), r'deep\.jpg: \.jpg holds 8 bits'),
        (tmp_path / 'deep.png', out, ResultSettings(picture=PictureFormat('avif')), 'holds 8 bits|cannot write it'),
        (tmp_path / 'glass.png', out, ResultSettings(picture=PictureFormat('jpg')), 'holds no transparency'),
        (photo, out, ResultSettings(picture=PictureFormat('png', quality=80)), '--quality 80: .png is lossless'),
        (photo, out, ResultSettings(picture=PictureFormat(quality=80)), '--quality 80: .png is lossless'),
        (photo, out, ResultSettings(picture=PictureFormat('jpg', lossless=True)), '--lossless: .jpg is not lossless'),
        (photo, out, ResultSettings(picture=PictureFormat('avif', lossless=True)), '--lossless: .avif is not'),
        (photo, out, ResultSettings(picture=PictureFormat('webp', 80, lossless=True)), '--lossless and --quality'),
        (photo, tmp_path / 'out.png', ResultSettings(picture=PictureFormat('jpg')), r'--format jpg: .* ends in \.png'),
        (photo, tmp_path / 'out.png', ResultSettings(suffix='_x4'), '--suffix _x4: the output is a file'),
        (photo, out, ResultSettings(suffix='a/b'), '--suffix a/b'),
        (photo, out, ResultSettings(suffix='x' * 250), 'would be too long'),
        (photo, out, ResultSettings(video=VideoCoding(crf=20)), '--crf: has an effect on videos alone'),
        (photo, out, ResultSettings(frames=FrameRange(0, 2)), '--frames: has an effect on videos alone'),
        (clip, out, ResultSettings(picture=PictureFormat('jpg')), '--format: has an effect on pictures alone'),
        (clip, out, ResultSettings(video=VideoCoding('av1', preset='slow')), '--preset slow: for av1'),
    ]:
        for dry_run in (False, True):
            with pytest.raises(RequestError, match=complaint):
                restore_path(source, target, weights, results=settings, dry_run=dry_run)
    assert names_in(tmp_path) == before
    assert not out.exists()


def test_the_command_that_is_proposed_next_has_the_same_settings(weights, photo, tmp_path, capsys):
    settings = ResultSettings(ResultSize(scale=2.5), PictureFormat('webp', 70), suffix='-x')
    assert restore_path(photo, tmp_path / 'out', weights, results=settings, device='cpu') == 0
    told = capsys.readouterr().out
    assert '--device cpu --format webp --scale 2.5 --quality 70 --suffix=-x --self-ensemble' in told
