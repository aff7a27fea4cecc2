"""A file is a picture or a video by its content, whatever its ending says."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pdan_plugin.media.file_kinds import kind_of
from pdan_plugin.media.pyav import import_av

PHOTO = np.ascontiguousarray(data.astronaut()[:64, :96])
CONTAINERS = ['mp4', 'mov', 'matroska', 'webm', 'avi', 'mpegts', 'mpeg', 'vob', 'flv', 'asf', 'ogg', '3gp']
CODECS = {'webm': 'libvpx', 'ogg': 'libvpx', 'mpeg': 'mpeg2video', 'vob': 'mpeg2video', 'flv': 'flv', 'asf': 'wmv2'}


def write_video(path, container):
    av = import_av()
    with av.open(str(path), 'w', format=container) as output:
        stream = output.add_stream(CODECS.get(container, 'mpeg4'), rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, 'yuv420p'
        for _ in range(12):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(PHOTO, format='rgb24')))
        output.mux(stream.encode(None))


@pytest.mark.parametrize('container', CONTAINERS)
def test_a_video_of_every_container(tmp_path, container):
    for name in ('a.png', 'a', 'a.mp4', 'a.unknown'):
        try:
            write_video(tmp_path / name, container)
        except ValueError as error:
            pytest.skip(f'this FFmpeg does not write it: {error}')
        assert kind_of(tmp_path / name) == 'video'


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'WEBP', 'BMP', 'GIF', 'AVIF'])
def test_a_picture_of_every_format(tmp_path, kind):
    if kind == 'AVIF' and 'AVIF' not in (Image.init(), Image.SAVE)[1]:
        pytest.skip('this Pillow does not write AVIF')
    for name in ('a.mp4', 'a.mts', 'a'):
        Image.fromarray(PHOTO).save(tmp_path / name, kind)
        assert kind_of(tmp_path / name) == 'picture'


def test_the_ending_decides_what_the_content_does_not(tmp_path):
    os.mkfifo(tmp_path / 'pipe.mp4')
    for name in ('text.mp4', 'text.png', 'nothing.mp4', 'nothing.png'):
        (tmp_path / name).write_text('Dear reader,' if 'text' in name else '')
    names = ('pipe.mp4', 'text.mp4', 'nothing.mp4', 'text.png', 'nothing.png', 'absent.png')
    assert [kind_of(tmp_path / name) for name in names] == 3 * ['video'] + 3 * ['picture']
    assert kind_of(Path('absent.mp4')) == 'video'
