"""Videos for tests, made of windows that glide over a photograph."""

import struct
from fractions import Fraction

import av
import numpy as np
from skimage import data

HEIGHT, WIDTH = 48, 64
PHOTO = data.astronaut().reshape(128, 4, 128, 4, 3).mean((1, 3)).round().astype(np.uint8)


def view(number, height=HEIGHT, width=WIDTH):
    """A window of the photograph, one pixel further down and right for each number."""
    return np.ascontiguousarray(PHOTO[number : number + height, 10 + number : 10 + number + width])


def interlaced_view(number, order, *, step=4):
    """A frame of two fields: the first shows ``view(step * number)``, the second the middle of the way to the next."""
    first, second = view(step * number), view(step * number + step // 2)
    top, bottom = (first, second) if order == 'tff' else (second, first)
    frame = top.copy()
    frame[1::2] = bottom[1::2]
    return frame


def make_interlaced(path, orders, *, codec='mpeg2video', pix_fmt='yuv420p', step=4):
    """A video of one frame for each of ``orders``: 'tff', 'bff', or 'prog' for a progressive one.

    Progressive frames come from an encoder of their own, so a mixture needs a codec that codes each frame by itself.
    """
    with av.open(str(path), 'w') as output:
        stream = output.add_stream(codec, rate=25)
        coders = {True: stream.codec_context, False: av.CodecContext.create(codec, 'w')}
        for uses_fields, coding in coders.items():
            flags = '+ilme+ildct+qscale' if uses_fields else '+qscale'
            coding.options = {'flags': flags, 'global_quality': '236'}
            coding.width, coding.height, coding.pix_fmt, coding.time_base = WIDTH, HEIGHT, pix_fmt, Fraction(1, 25)
            coding.gop_size, coding.max_b_frames, coding.framerate = 1, 0, Fraction(25)
        for number, order in enumerate(orders):
            pixels = view(step * number) if order == 'prog' else interlaced_view(number, order, step=step)
            uses_fields = pix_fmt == 'yuv420p' and order != 'prog'
            frame = _marked(_interlaced_420(pixels) if uses_fields else _in_format(pixels, pix_fmt), order)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in coders[order != 'prog'].encode(frame):
                packet.stream = stream
                output.mux(packet)
        output.mux(stream.encode(None))
    return path


def _in_format(pixels, pix_fmt):
    return av.VideoFrame.from_ndarray(pixels, format='rgb24').reformat(format=pix_fmt)


def _interlaced_420(pixels):
    """In 4:2:0; the chroma of each field is made of the lines of that field."""
    fields = [_in_format(np.ascontiguousarray(pixels[parity::2]), 'yuv420p').to_ndarray() for parity in (0, 1)]
    height, half = HEIGHT // 2, HEIGHT // 8
    planes = []
    for start, rows in ((0, height), (height, half), (height + half, half)):
        parts = [field[start : start + rows].reshape(-1, WIDTH if start == 0 else WIDTH // 2) for field in fields]
        planes.append(np.stack(parts, axis=1).reshape(-1, WIDTH))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(np.vstack(planes)), format='yuv420p')


def _marked(frame, order):
    """The frame with a flag for its field order; a filter sets it, because PyAV has no setter."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format=frame.format, time_base=Fraction(1, 25))
    mark, sink = graph.add('setfield', order), graph.add('buffersink')
    source.link_to(mark)
    mark.link_to(sink)
    graph.configure()
    frame.pts = 0
    graph.push(frame)
    return graph.pull()


def set_display_matrix(path, a, b, c, d, x=0, y=0):
    """Writes a display matrix (in whole numbers) into the first track header of a .mov or .mp4."""
    content = bytearray(path.read_bytes())
    matrix = content.find(b'tkhd') + 4 + 40
    numbers = [each << 16 for each in (a, b, 0, c, d, 0, x, y)]
    content[matrix : matrix + 36] = struct.pack('>9i', *numbers, 1 << 30)
    path.write_bytes(content)


def make_unknown_sound(path, which):
    """Gives one of the sound tracks of a .mp4 (counted from 0) a codec that nobody knows, as iPhones write it."""
    content = bytearray(path.read_bytes())
    table = -1
    for _ in range(which + 2):  # the pictures have the first
        table = content.find(b'stsd', table + 1)
    for old, new in ((b'mp4a', b'apac'), (b'esds', b'free')):
        at = content.find(old, table)
        content[at : at + 4] = new
    path.write_bytes(content)


def add_tones(output, count, seconds, codec='aac'):
    """Streams of sound, each with a tone of its own, to be encoded by `write_tones` after the pictures."""
    tones = []
    for number in range(count):
        stream = output.add_stream(codec, rate=48000, layout='mono')
        wave = np.sin(np.arange(int(48000 * seconds)) * 0.05 * (number + 1))
        tones.append((stream, (wave * 8000).astype(np.int16)))
    return tones


def write_tones(output, tones):
    for stream, wave in tones:
        frame = av.AudioFrame.from_ndarray(wave[None], format='s16', layout='mono')
        frame.rate = 48000
        coding = stream.codec_context
        resampler = av.AudioResampler(coding.format, 'mono', 48000, frame_size=coding.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
