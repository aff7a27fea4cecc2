"""Videos as other programs leave them: streams that begin late, times of decoding, files without container or index."""

import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from repeating_network import Repeating
from video_files import HEIGHT, WIDTH, add_tones, view, write_tones

from pdan_plugin.media.joined_recordings import second_recording
from pdan_plugin.media.mp4_boxes import boxes
from pdan_plugin.media.video import restore_video
from pdan_plugin.media.video_contents import is_video_file
from pdan_plugin.media.video_source import VideoFileError, read_video_header
from pdan_plugin.restoration.restorer import Restorer

COUNT = 12


def write(
    path, kind, codec='libx264', *, frames=COUNT, sound=None, seconds=None, options=None, b_frames=0, pix_fmt='yuv420p'
):
    """A video at 25 frames per second; each frame shows another part of a photograph, again after ``COUNT``."""
    with av.open(str(path), 'w', format=kind, options=options or {}) as output:
        stream = output.add_stream(codec, rate=25, options={'crf': '1'} if codec == 'libx264' else {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.max_b_frames = b_frames
        tones = add_tones(output, 1, seconds or frames / 25, sound) if sound else []
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(view(number % COUNT), format='rgb24').reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        write_tones(output, tones)
    return path


def restored(source, target):
    """The outcome, the times in 25ths of a second, and how far each frame is from the one that it should be."""
    outcome = restore_video(Restorer(Repeating(2).eval(), 'cpu'), source, target)
    with av.open(str(target)) as container:
        frames = list(container.decode(video=0))
    times = [round(frame.time * 25, 2) for frame in frames]
    pictures = [frame.to_ndarray(format='rgb24')[::2, ::2].astype(int) for frame in frames]
    return outcome, times, [np.abs(each - view(n % COUNT)).mean() for n, each in enumerate(pictures)]


def test_a_stream_that_begins_in_mid_file_ends_nothing(tmp_path):
    """The second recording has packets of another number; PyAV raises an IndexError where they begin."""
    options = [{'mpegts_start_pid': '256'}, {'mpegts_start_pid': '512', 'mpegts_pmt_start_pid': '4200'}]
    first, second = (
        write(tmp_path / f'{n}.ts', 'mpegts', 'mpeg2video', frames=60, sound='mp2', options=each).read_bytes()
        for n, each in enumerate(options)
    )
    (tmp_path / 'in.ts').write_bytes(first * 4 + second * 2)
    outcome, times, far = restored(tmp_path / 'in.ts', tmp_path / 'out.mkv')
    assert len(times) == 240
    assert max(far) < 25
    assert any('a stream begins that the file did not announce' in problem for problem in outcome.problems)


ONE_TIME = {  # formats whose packets have one time, which is not that of display if the codec reorders frames
    ('avi', 'libx264', 3): None,
    ('avi', 'libx264', 0): None,
    ('avi', 'mpeg4', 2): 'mp2',
    ('avi', 'mpeg2video', 2): None,
    ('asf', 'libx264', 2): 'mp2',
    ('asf', 'mpeg4', 2): 'aac',
    ('asf', 'mpeg2video', 0): 'mp2',
    ('mpeg1video', 'mpeg1video', 2): None,
    ('mpeg2video', 'mpeg2video', 2): None,
    ('mxf', 'libx264', 2): None,
    ('mxf', 'mpeg2video', 2): None,
}


@pytest.mark.parametrize('case', ONE_TIME, ids=lambda case: '-'.join(map(str, case)))
def test_reordered_frames_come_in_order_and_at_their_times(tmp_path, case):
    """FFmpeg's times of display are late by the decoder's delay, or those of other frames."""
    kind, codec, b_frames = case
    source = write(tmp_path / 'in', kind, codec, frames=3 * COUNT, sound=ONE_TIME[case], b_frames=b_frames)
    outcome, times, far = restored(source, tmp_path / 'out.mkv')
    assert outcome.problems == []
    assert times == list(range(3 * COUNT))
    assert max(far) < 17


def packed(path, kind, packets, *, gap=0):
    """MPEG-4 as DivX stores it: a B-frame behind its reference in one packet; a packet without a frame comes later."""
    empty = b'\0\0\1\xb6\x50\x4f'  # a picture that is not coded
    chunks = [b'\0\0\1\xb2DivX503b1393p' + packets[0]]
    for before, packet in pairwise(packets):
        if _is_b(packet) and not _is_b(before):
            chunks[-1] += packet
        else:
            chunks += [*([empty] if _is_b(before) and not _is_b(packet) else []), packet]
    chunks += [empty] * _is_b(packets[-1])
    with av.open(str(path), 'w', format=kind) as output:
        stream = output.add_stream('mpeg4', rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        output.start_encoding()
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number + (gap if number >= COUNT else 0)
            output.mux(packet)
    return path


def _is_b(packet):
    return packet[packet.index(b'\0\0\1\xb6') + 4] >> 6 == 2


@pytest.mark.parametrize('gap', [0, 7])
@pytest.mark.parametrize('kind', ['avi', 'matroska', 'mp4'])
@pytest.mark.parametrize('b_frames', [1, 2])
def test_packed_b_frames_come_in_order_and_at_their_times(tmp_path, kind, b_frames, gap):
    source = write(tmp_path / 'in.m4v', 'm4v', 'mpeg4', frames=2 * COUNT, b_frames=b_frames)
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    source = packed(tmp_path / 'packed', kind, packets, gap=gap)
    outcome, times, far = restored(source, tmp_path / 'out.mkv')
    assert outcome.problems == []
    assert times == [n + (gap if n >= COUNT else 0) for n in range(2 * COUNT)]
    assert max(far) < 17


@pytest.mark.parametrize('kind', ['asf', 'matroska', 'mpegts', 'mpeg', 'nut', 'wtv'])
@pytest.mark.parametrize('frames', [1, COUNT])
def test_sound_that_goes_on_behind_the_pictures_is_no_early_end(tmp_path, kind, frames):
    source = write(tmp_path / 'in', kind, 'mpeg2video', frames=frames, sound='mp2', seconds=2)
    outcome, times, _ = restored(source, tmp_path / 'out.mkv')
    assert (outcome.problems, len(times)) == ([], frames)


def test_damage_at_the_beginning_moves_no_other_frame(tmp_path):
    source = write(tmp_path / 'in.avi', 'avi', 'mpeg4', frames=3 * COUNT, b_frames=2)
    with av.open(str(source)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    content = bytearray(source.read_bytes())
    for place, size in packets[:4]:
        content[place : place + size] = bytes(size)
    source.write_bytes(content)
    outcome, times, far = restored(source, tmp_path / 'out.mkv')
    assert times == list(range(3 * COUNT))
    assert max(far[COUNT:]) < 17
    (problem,) = outcome.problems
    assert 'could not be decoded, the first at 0.00 s' in problem


@pytest.mark.parametrize('sound', [None, 'mp2'])
def test_an_avi_that_breaks_off_is_reported(tmp_path, sound):
    """FFmpeg gives it the length of what is there."""
    source = write(tmp_path / 'in.avi', 'avi', 'mpeg4', frames=3 * COUNT, sound=sound)
    with av.open(str(source)) as container:
        end = [packet.pos for packet in container.demux(video=0) if packet.size][2 * COUNT]
    source.write_bytes(source.read_bytes()[: end - 8])
    outcome, times, _ = restored(source, tmp_path / 'out.mkv')
    assert len(times) == 2 * COUNT
    (problem,) = outcome.problems
    assert problem.startswith('the file ends early, at 0.96 s of 1.44 s')


def set_edits(path, edits):
    """Writes an edit list of (duration in thousandths of a second, first time in ticks of the track) into a .mp4."""
    content = bytearray(path.read_bytes())
    (scale,) = struct.unpack_from('>I', content, content.index(b'mvhd') + 16)  # ticks of a second
    place = content.index(b'elst') - 4
    before = int.from_bytes(content[place : place + 4], 'big')
    body = b''.join(struct.pack('>IiHH', length * scale // 1000, begin, 1, 0) for length, begin in edits)
    box = struct.pack('>I4sII', 16 + len(body), b'elst', 0, len(edits)) + body
    content[place : place + before] = box
    for name in (b'edts', b'trak', b'moov'):  # the boxes around it
        size = content.rindex(name, 0, place + 8) - 4
        content[size : size + 4] = struct.pack('>I', struct.unpack_from('>I', content, size)[0] + len(box) - before)
    path.write_bytes(content)


@pytest.mark.parametrize('sound', [None, 'aac'])
@pytest.mark.parametrize('begins', [(0, 20), (20, 0), (4, 4), (3, 16)])
def test_the_parts_of_an_edit_list_follow_each_other(tmp_path, begins, sound):
    """What the decoder needs before a part goes back in time, and is not shown."""
    path = write(tmp_path / 'in.mp4', 'mp4', frames=36, sound=sound)
    set_edits(path, [(400, 512 * begin) for begin in begins])
    outcome, times, _ = restored(path, tmp_path / 'out.mkv')
    assert (outcome.notes, outcome.problems) == ([], [])
    assert times == list(range(20))
    with av.open(str(tmp_path / 'out.mkv')) as container:
        pictures = [each.to_ndarray(format='rgb24')[::2, ::2].astype(int) for each in container.decode(video=0)]
    shown = [begin + number for begin in begins for number in range(10)]
    assert max(np.abs(each - view(n % COUNT)).mean() for each, n in zip(pictures, shown, strict=True)) < 15


RAW = {
    '.h264': ('h264', 'libx264'),
    '.hevc': ('hevc', 'libx265'),
    '.m4v': ('m4v', 'mpeg4'),
    '.nut': ('nut', 'mpeg4'),
    '.wtv': ('wtv', 'mpeg2video'),
    '.mjpeg': ('mjpeg', 'mjpeg'),
}


@pytest.mark.parametrize('ending', RAW)
def test_videos_without_a_usual_container_are_videos(tmp_path, ending):
    path = write(tmp_path / f'in{ending}', *RAW[ending], pix_fmt='yuvj420p' if ending == '.mjpeg' else 'yuv420p')
    assert is_video_file(path)
    assert restored(path, tmp_path / 'out.mp4')[0].frames == COUNT
    if ending != '.mjpeg':  # it begins like a picture, and is refused as one
        assert is_video_file(path.rename(tmp_path / 'without'))


def test_a_recording_behind_an_flv_is_reported(tmp_path):
    """FFmpeg takes the second header for a part of the first recording, and ends there."""
    path = write(tmp_path / 'in.flv', 'flv')
    assert restored(path, tmp_path / 'one.mp4')[0].problems == []
    path.write_bytes(path.read_bytes() * 2)
    outcome, times, _ = restored(path, tmp_path / 'two.mp4')
    assert len(times) == COUNT
    assert [problem.partition(' ')[2] for problem in outcome.problems] == [
        'bytes of the file cannot be read, such as another recording behind the first; split the file'
    ]


JOINED = {
    '.mp4': ('mp4', None),
    'index first.mp4': ('mp4', {'movflags': '+faststart'}),
    'fragments.mp4': ('mp4', {'movflags': 'frag_keyframe+empty_moov+default_base_moof'}),
    '.mov': ('mov', None),
    '.wmv': ('asf', None),
    '.nut': ('nut', None),
    '.wtv': ('wtv', None),
}
CODECS = {'asf': 'mpeg4', 'wtv': 'mpeg2video'}


@pytest.mark.parametrize('ending', JOINED)
def test_a_recording_behind_the_first_is_reported(tmp_path, ending):
    """`cat a.mp4 b.mp4`: FFmpeg reads the first by its index, and knows of nothing behind it."""
    kind, options = JOINED[ending]
    codec = CODECS.get(kind, 'libx264')
    path = write(tmp_path / f'in{ending}', kind, codec, options=options, sound='aac' if kind == 'mp4' else None)
    assert restored(path, tmp_path / 'one.mp4')[0].problems == []
    first = path.stat().st_size
    other = write(tmp_path / f'other{ending}', kind, codec, frames=COUNT + 3, options=options)
    path.write_bytes(path.read_bytes() + other.read_bytes())
    outcome, times, _ = restored(path, tmp_path / 'two.mp4')
    assert len(times) == COUNT
    assert outcome.problems == [
        f'{other.stat().st_size:,} bytes of the file are left out: another recording, behind the first; split the file '
        f'at byte {first:,}'
    ]


@pytest.mark.parametrize('place', [30, 2**20 - 3, 2**20, 2**20 + 1, 2**21 - 20])
def test_a_second_head_is_found_across_the_blocks_that_are_read(tmp_path, place):
    head = write(tmp_path / 'in.nut', 'nut', 'mpeg4').read_bytes()[:40]
    (tmp_path / 'two.nut').write_bytes(head[:30] + bytes(place - 30) + head)
    assert second_recording(tmp_path / 'two.nut', 'nut') == place
    (tmp_path / 'one.nut').write_bytes(head + bytes(place) + head[25:])  # the head alone may come again
    assert second_recording(tmp_path / 'one.nut', 'nut') is None


def test_a_recording_behind_an_older_quicktime_file_is_reported(tmp_path):
    """Without the box that names the format: its pictures, then its index."""
    path = write(tmp_path / 'in.mov', 'mov')
    content = path.read_bytes().replace(b'ftyp', b'free', 1)
    path.write_bytes(content)
    assert restored(path, tmp_path / 'one.mp4')[0].problems == []
    path.write_bytes(content + content)
    (problem,) = restored(path, tmp_path / 'two.mp4')[0].problems
    assert problem.startswith(f'{len(content):,} bytes of the file are left out')
    assert problem.endswith(f'at byte {len(content):,}')


@pytest.mark.parametrize('flags', ['frag_keyframe+empty_moov+default_base_moof', 'frag_keyframe', '+faststart', ''])
def test_an_mp4_of_one_recording_has_nothing_behind_it(tmp_path, flags):
    """Fragments, whose head may come again; unused space and other programs' boxes."""
    path = write(tmp_path / 'in.mp4', 'mp4', options={'movflags': flags} if flags else None)
    content = path.read_bytes()
    for box in (b'free', b'uuid', b'udta', b'mfra'):
        content += (8 + 6000).to_bytes(4, 'big') + box + bytes(6000)
    path.write_bytes(content)
    outcome, times, _ = restored(path, tmp_path / 'out.mp4')
    assert (outcome.problems, len(times)) == ([], COUNT)


def test_fragments_with_the_head_of_the_file_before_each_are_one_recording(tmp_path):
    path = write(
        tmp_path / 'in.mp4', 'mp4', 'mpeg4', options={'movflags': 'frag_every_frame+empty_moov+default_base_moof'}
    )
    with path.open('rb') as file:
        fragments = [box.place for box in boxes(file) if box.kind == b'moof']
    content = path.read_bytes()
    head, middle = content[: fragments[0]], fragments[COUNT // 2]
    path.write_bytes(content[:middle] + head + content[middle:] + head)
    outcome, times, _ = restored(path, tmp_path / 'out.mp4')
    assert (outcome.problems, len(times)) == ([], COUNT)


def test_a_file_that_cannot_be_opened_says_what_it_is(tmp_path):
    path = write(tmp_path / 'in.mp4', 'mp4')
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b'moov') - 4])
    with pytest.raises(VideoFileError, match=r'its index \(moov\) is missing'):
        read_video_header(path)
    path.write_bytes(b'<!doctype html><html>not found</html>')
    with pytest.raises(VideoFileError, match='it is a web page'):
        read_video_header(path)
