"""Videos of frames at given times, joined recordings and sounds; and what a result holds."""

from fractions import Fraction

import av
import numpy as np
from repeating_network import Repeating
from skimage import data
from video_files import add_tones, write_tones

from pdan_plugin.restoration.restorer import Restorer

HEIGHT, WIDTH = 48, 64
TICKS = Fraction(1, 600)


PHOTO = np.ascontiguousarray(data.astronaut()[::4, ::4])  # 128 x 128


def restorer(upscale=2):
    return Restorer(Repeating(upscale).eval(), 'cpu')


def view(number, height=HEIGHT, width=WIDTH):
    """A window that glides over a photograph."""
    return np.ascontiguousarray(PHOTO[number : number + height, 10 + number : 10 + number + width])


def make_video(path, times, *, codec='mpeg4', sound=None, height=HEIGHT, width=WIDTH, pix_fmt='yuv420p', **tags):
    """A video with a frame at each of ``times`` (in 600ths of a second), and with a tone."""
    with av.open(str(path), 'w') as output:
        options = {'flags': '+qscale', 'global_quality': '236'} if codec == 'mpeg4' else {}
        stream = output.add_stream(codec, rate=20, options=options)
        coding = stream.codec_context
        coding.width, coding.height, coding.pix_fmt, coding.time_base = width, height, pix_fmt, TICKS
        coding.gop_size, coding.max_b_frames = 1, 0  # each frame by itself: a broken one breaks no other
        for name, value in tags.items():
            setattr(coding, name, value)
        tone = output.add_stream(sound, rate=16000, layout='mono') if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(view(number, height, width), format='rgb24')
            frame.pts, frame.time_base = time, TICKS
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            _add_tone(output, tone, seconds=(times[-1] + 30) * TICKS)
    return path


def _add_tone(output, stream, seconds):
    wave = (np.sin(np.arange(int(16000 * seconds)) * 0.2) * 8000).astype(np.int16)
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(wave[None], format='s16', layout='mono')
    frame.rate = 16000
    resampler = av.AudioResampler(stream.codec_context.format, 'mono', 16000, frame_size=1024)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))
    del fifo


def read(path):
    """Times in seconds, pictures and the packets of the sound."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        pictures = [
            np.rot90(frame.to_ndarray(format='rgb24'), round(frame.rotation / 90) % 4).astype(int) for frame in frames
        ]
    with av.open(str(path)) as container:
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.size] if container.streams.audio else []
    return times, pictures, sound


def break_packets(path, which):
    """Overwrites the contents of some pictures' packets."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in which:
        start, size = packets[number]
        content[start : start + size] = bytes(size)
    path.write_bytes(content)


def make_recording(path, *, count=25, sound=True, codec='mp2', start=0.0, first=0, height=HEIGHT, width=WIDTH):
    """A transport stream: ``count`` frames of 40 ms with B-frames, and a tone."""
    with av.open(str(path), 'w', format='mpegts', options={'output_ts_offset': str(start)}) as output:
        options = {'flags': '+qscale', 'global_quality': '236', 'bf': '2'}
        stream = output.add_stream('mpeg2video', rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        tones = add_tones(output, 1, count * 0.04, codec=codec) if sound else []
        for number in range(count):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(first + number, height, width), format='rgb24')))
        output.mux(stream.encode(None))
        write_tones(output, tones)
    return path


def joined(path, *parts):
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    return path


def make_with_tones(path, count=2, prepare=lambda streams: None):
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('libx264', rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        tones = add_tones(output, count, 0.5)
        prepare(output.streams)
        for number in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(number), format='rgb24')))
        output.mux(stream.encode(None))
        write_tones(output, tones)
    return path
