"""Times that jump, packet by packet; whole files are in test_joined_videos.py."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from pdan_plugin.media.timeline import Timeline

BASE = Fraction(1, 1000)
PICTURE, SOUND, TEXT = (
    SimpleNamespace(index=index, type=kind) for index, kind in enumerate(['video', 'audio', 'subtitle'])
)


def packet(stream, time, *, shown=None, duration=40, is_discard=False):
    """What a timeline reads of a packet of PyAV, whose class has no constructor for it. Times in milliseconds."""
    return SimpleNamespace(
        stream=stream,
        dts=time,
        pts=time if shown is None else shown,
        duration=duration,
        time_base=BASE,
        is_discard=is_discard,
    )


def continued(timeline, packets):
    for each in packets:
        timeline.continue_times(each)
    return [each.pts for each in packets]


def test_regular_times_stay():
    timeline = Timeline(may_jump=True)
    assert continued(timeline, [packet(PICTURE, time) for time in (0, 40, 80, 2000, 2040)]) == [0, 40, 80, 2000, 2040]
    assert timeline.jumps == []


def test_what_is_decoded_but_not_shown_is_no_jump():
    timeline = Timeline(may_jump=False)
    hidden = [packet(PICTURE, time, is_discard=True) for time in (-1500, -1460)]
    times = continued(timeline, [packet(PICTURE, 4000), *hidden, packet(PICTURE, 4040)])
    assert times == [4000, -1500, -1460, 4040]
    assert timeline.jumps == []


@pytest.mark.parametrize('start', [0, 100, 95_443_717, 3_600_000])
def test_a_second_recording_follows_the_first(start):
    first, second = [0, 40, 80, 120], [start, start + 40, start + 80]
    if start == 100:  # a step back of 60 ms is none: some files are that inexact
        first = [0, 100, 200, 300, 400]
        second = [start, start + 100]
    timeline = Timeline(may_jump=True)
    times = continued(timeline, [packet(PICTURE, time, duration=first[1]) for time in first + second])
    assert times == [first[1] * number for number in range(len(first + second))]
    assert len(timeline.jumps) == 1
    assert timeline.jumps[0].time * 1000 == first[-1] + first[1]
    assert timeline.jumps[0].step * 1000 == start - (first[-1] + first[1])


def test_a_short_gap_stays_and_a_long_one_is_a_jump_in_transport_streams_alone():
    assert continued(Timeline(may_jump=True), [packet(PICTURE, time) for time in (0, 40, 9000)]) == [0, 40, 9000]
    assert continued(Timeline(may_jump=True), [packet(PICTURE, time) for time in (0, 40, 19000)]) == [0, 40, 80]
    assert continued(Timeline(may_jump=False), [packet(PICTURE, time) for time in (0, 40, 19000)]) == [0, 40, 19000]


def test_a_hole_of_one_stream_is_no_jump():
    """The picture is gone for 20 s, the sound goes on."""
    packets = [packet(PICTURE, 0), *(packet(SOUND, time, duration=500) for time in range(0, 20_500, 500))]
    packets += [packet(PICTURE, 20_000), packet(SOUND, 20_500), packet(PICTURE, 20_040)]
    times = [each.pts for each in packets]
    timeline = Timeline(may_jump=True)
    assert continued(timeline, packets) == times
    assert timeline.jumps == []


def test_streams_stay_in_sync_and_late_packets_keep_their_time():
    """The last sound of the first recording is read after the first picture of the second."""
    packets = [packet(PICTURE, 5000), packet(SOUND, 5010), packet(PICTURE, 5040), packet(PICTURE, 1000),
               packet(SOUND, 5050), packet(PICTURE, 1040), packet(SOUND, 1030), packet(SOUND, 1070)]  # fmt: skip
    timeline = Timeline(may_jump=True)
    assert continued(timeline, packets) == [5000, 5010, 5040, 5080, 5050, 5120, 5110, 5150]
    assert len(timeline.jumps) == 1


def test_subtitles_follow_the_part_that_they_belong_to():
    packets = [packet(PICTURE, 0), packet(TEXT, 10), packet(PICTURE, 40), packet(PICTURE, 80_000), packet(TEXT, 80_020)]
    timeline = Timeline(may_jump=True)
    assert continued(timeline, packets) == [0, 10, 40, 80, 100]


def test_times_of_display_may_go_back_and_forth():
    order = [(0, 80), (40, 240), (80, 160), (120, 120), (160, 200)]
    timeline = Timeline(may_jump=True)
    assert continued(timeline, [packet(PICTURE, time, shown=shown) for time, shown in order]) == [
        shown for _, shown in order
    ]
    second = [packet(PICTURE, time, shown=shown) for time, shown in order]
    assert continued(timeline, second) == [shown + 200 for _, shown in order]
