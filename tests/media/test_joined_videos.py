"""Recordings joined into one file, with pauses, other sizes, damaged sound: what is whole is restored and plays on."""

import av
import numpy as np
import pytest
from gliding_videos import HEIGHT, joined, make_recording, read, restorer, view

from pdan_plugin.media.video import restore_video


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
@pytest.mark.parametrize('sound', [True, False])
@pytest.mark.parametrize('start', [0, 300, 95442.5])  # of the second: the same clock, an hour later, and across a wrap
def test_joined_recordings_play_one_after_the_other(tmp_path, start, sound, ending):
    one = make_recording(tmp_path / 'one.ts', sound=sound)
    two = make_recording(tmp_path / 'two.ts', sound=sound, start=start, first=25)
    source = joined(tmp_path / 'in.ts', one, two)
    outcome = restore_video(restorer(1), source, tmp_path / f'out{ending}')
    assert (outcome.frames, outcome.problems) == (50, [])
    assert any('its times jump at' in note for note in outcome.notes)
    times, pictures, packets = read(tmp_path / f'out{ending}')
    steps = np.diff(times)
    assert len(times) == 50
    assert np.delete(steps, 24) == pytest.approx(0.04, abs=0.0015)
    assert 0.038 < steps[24] < 0.1  # the sound of the first may be a little longer than its pictures
    for number in (0, 24, 25, 49):
        assert np.abs(pictures[number] - view(number)).mean() < 12
    if sound:
        assert packets == read(one)[2] + read(two)[2]
        with av.open(str(tmp_path / f'out{ending}')) as container:
            shown = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]
        assert (np.diff(shown) >= 0).all()
        assert np.abs(np.array(shown[45:]) - (times[25] + 0.024 * np.arange(len(shown) - 45)))[0] < 0.3
        assert shown[-1] == pytest.approx(times[-1], abs=0.15)


def test_recordings_with_a_pause_and_four_clocks(tmp_path):
    parts = [make_recording(tmp_path / f'{start}.ts', start=start, count=10) for start in (500, 0, 520, 90000)]
    outcome = restore_video(restorer(1), joined(tmp_path / 'in.ts', *parts), tmp_path / 'out.mp4')
    assert outcome.frames == 40
    times = read(tmp_path / 'out.mp4')[0]
    assert np.diff(times).max() < 0.11
    assert times[-1] < 2


@pytest.mark.parametrize('sound', [True, False])
def test_a_size_that_changes_keeps_what_is_finished(tmp_path, sound):
    one = make_recording(tmp_path / 'one.ts', sound=sound)
    two = make_recording(tmp_path / 'two.ts', sound=sound, height=HEIGHT - 16)
    outcome = restore_video(restorer(), joined(tmp_path / 'in.ts', one, two), tmp_path / 'out.mp4')
    assert outcome.frames == 25
    assert len(outcome.problems) == 1
    assert 'changes its size from 64x48 to 64x32; cut the video where the size changes (at 1.' in outcome.problems[0]
    assert len(read(tmp_path / 'out.mp4')[0]) == 25


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_damaged_sound_costs_its_packets_alone(tmp_path, ending):
    source = make_recording(tmp_path / 'in.ts', codec='aac', count=50)
    whole = read(source)[2]
    content = bytearray(source.read_bytes())
    for at in range(int(0.4 * len(content)) // 188 * 188, int(0.6 * len(content)), 188):
        if content[at + 1] & 0x1F == 1 and content[at + 2] == 1:  # a packet of the second stream
            content[at + 20 : at + 188] = bytes(168)
    source.write_bytes(content)
    outcome = restore_video(restorer(1), source, tmp_path / f'out{ending}')
    assert outcome.frames == 50
    reported = 'packets of audio stream 1 cannot be copied and are left out, the first at'
    assert any(reported in each for each in outcome.problems)
    times, _, sound = read(tmp_path / f'out{ending}')
    assert len(times) == 50
    assert len(whole) // 2 < len(sound) < len(whole)
