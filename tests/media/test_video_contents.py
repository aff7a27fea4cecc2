"""Which files are videos, by content: real files of each format, with and without their endings."""

import os

import av
import numpy as np
import pytest
from PIL import Image
from repeating_network import make_weights
from video_files import HEIGHT, WIDTH, add_tones, view, write_tones

from pdan_plugin.errors import RequestError
from pdan_plugin.media.video_contents import begins_like_video, is_video_file
from pdan_plugin.media.video_source import VIDEO_SUFFIXES
from pdan_plugin.preparation.source_survey import find_clips
from pdan_plugin.restoration import restore_path
from pdan_plugin.restoration.jobs import make_plan

# ending -> FFmpeg's name of the format, video codec
FORMATS = {
    '.mts': ('mpegts', 'mpeg2video'),
    '.m2ts': ('mpegts', 'libx264'),
    '.ts': ('mpegts', 'libx264'),
    '.wmv': ('asf', 'wmv2'),
    '.flv': ('flv', 'flv'),
    '.3gp': ('3gp', 'mpeg4'),
    '.vob': ('vob', 'mpeg2video'),
    '.mpg': ('mpeg', 'mpeg1video'),
    '.ogv': ('ogg', 'libvpx'),
    '.avi': ('avi', 'mjpeg'),
    '.mov': ('mov', 'libx264'),
    '.mp4': ('mp4', 'libx264'),
    '.mkv': ('matroska', 'libx264'),
    '.webm': ('webm', 'libvpx'),
}


def write(path, kind, codec, *, options=None):
    with av.open(str(path), 'w', format=kind, options=options or {}) as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        for number in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(number), format='rgb24')))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize('ending', FORMATS)
def test_every_ending_is_in_the_list_and_every_content_is_seen(tmp_path, ending):
    options = {'mpegts_m2ts_mode': '1'} if ending == '.m2ts' else None
    path = write(tmp_path / f'in{ending}', *FORMATS[ending], options=options)
    assert ending in VIDEO_SUFFIXES
    assert begins_like_video(path.read_bytes()[:4096])
    for name in ('in', 'in.dat', 'in.jpg', f'in{ending.upper()}'):
        assert is_video_file(path.rename(tmp_path / name))
        path = tmp_path / name
    assert make_plan(path, tmp_path / 'out').jobs[0].kind == 'video'
    assert find_clips(path, 'train', say=lambda line: None)[0].frames == 3


def test_what_only_looks_like_a_video_is_none(tmp_path):
    with av.open(str(tmp_path / 'sound.m4a'), 'w', format='mp4') as output:
        write_tones(output, add_tones(output, 1, 0.1))
    with av.open(str(tmp_path / 'sound.mka'), 'w', format='matroska') as output:
        write_tones(output, add_tones(output, 1, 0.1))
    Image.fromarray(view(0)).save(tmp_path / 'picture.mp4', format='png')
    (tmp_path / 'picture.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100))
    (tmp_path / 'sound.wav').write_bytes(b'RIFF\x24\0\0\0WAVEfmt ' + bytes(100))
    (tmp_path / 'text.md').write_text('G' * 40 + 'ftyp, OggS\n' * 1000)
    (tmp_path / 'numbers.npy').write_bytes(np.arange(3000).tobytes())
    (tmp_path / 'empty').write_bytes(b'')
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_video_file(path)] == []
    (tmp_path / 'text.mov').write_text('Dear reader,')  # named like one: it is reported as damaged, not passed over
    assert is_video_file(tmp_path / 'text.mov')
    assert is_video_file(tmp_path / 'nowhere.mov')


def test_a_folder_is_planned_by_content(tmp_path, capsys):
    source = tmp_path / 'in'
    source.mkdir()
    write(source / 'cam.MTS', 'mpegts', 'mpeg2video')
    write(source / 'film.dat', 'mpeg', 'mpeg1video')
    write(source / 'noending', 'mp4', 'libx264')
    Image.fromarray(view(0)).save(source / 'photo.png')
    with av.open(str(source / 'sound.m4a'), 'w', format='mp4') as output:
        write_tones(output, add_tones(output, 1, 0.1))
    assert restore_path(source, tmp_path / 'out', make_weights(tmp_path, 'repeating')) == 0
    assert '4 of 4 restored' in (told := capsys.readouterr().out)
    assert '1 .m4a' in told
    made = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert made == ['cam.mp4', 'film.mp4', 'noending.mp4', 'photo.png', 'restore.json']
    for name in made[:3]:
        with av.open(str(tmp_path / 'out' / name)) as container:
            first = next(container.decode(video=0)).to_ndarray(format='rgb24')
        assert np.abs(first[::2, ::2].astype(int) - view(0)).mean() < 15


def test_clips_of_a_folder_are_found_by_content(tmp_path):
    write(tmp_path / 'one.3gp', '3gp', 'mpeg4')
    write(tmp_path / 'two', 'matroska', 'libx264')
    with av.open(str(tmp_path / 'sound.m4a'), 'w', format='mp4') as output:
        write_tones(output, add_tones(output, 1, 0.1))
    (tmp_path / 'folder.mp4').mkdir()
    told = []
    assert [clip.name for clip in find_clips(tmp_path, 'train', say=told.append)] == ['one', 'two']
    assert f'{tmp_path}: not used: folder.mp4, sound.m4a' in told
    (tmp_path / 'broken.flv').write_bytes(b'no video')
    with pytest.raises(RequestError, match=r'broken\.flv: cannot be opened as a video'):
        find_clips(tmp_path, 'train', say=told.append)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'WEBP', 'BMP', 'GIF', 'AVIF'])
def test_a_picture_of_every_format_is_no_video_under_any_name(tmp_path, kind):
    if kind == 'AVIF' and 'AVIF' not in (Image.init(), Image.SAVE)[1]:
        pytest.skip('this Pillow does not write AVIF')
    for name in ('a.mp4', 'a.mts', 'a'):
        Image.fromarray(view(0)).save(tmp_path / name, kind)
        assert not is_video_file(tmp_path / name)


def test_a_pipe_is_what_its_ending_says_and_is_not_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe.mp4')
    os.mkfifo(tmp_path / 'pipe.png')
    assert [is_video_file(tmp_path / name) for name in ('pipe.mp4', 'pipe.png')] == [True, False]
