"""The encoder that a video gets, and what is refused."""

import pytest
from av.codec.codec import UnknownCodecError

from pdan_plugin.errors import RequestError
from pdan_plugin.media.video_coding import VideoCoding

DISPLAY = 'G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)'


def test_the_defaults_are_those_before_there_was_a_choice():
    plain, deep = (VideoCoding().encoder(is_deep=is_deep) for is_deep in (False, True))
    assert (plain.codec, plain.name, plain.options, plain.tag) == ('h264', 'libx264', {'crf': '14'}, None)
    assert (deep.codec, deep.name, deep.tag) == ('h265', 'libx265', 'hvc1')
    assert deep.options == {'crf': '14', 'x265-params': 'log-level=error'}


def test_values_reach_the_encoder():
    coding = VideoCoding('h265', 23, 'slow')
    assert coding.encoder(is_deep=False).options == {'crf': '23', 'preset': 'slow', 'x265-params': 'log-level=error'}
    assert VideoCoding(crf=0).encoder(is_deep=False).options['crf'] == '0'
    assert VideoCoding('av1', preset='6').encoder(is_deep=True).options == {'crf': '18', 'b': '0', 'preset': '6'}


def test_light_and_display_of_hdr_reach_each_encoder_in_its_words():
    facts = {'is_deep': True, 'mastering_display': DISPLAY, 'content_light': '1000,400'}
    x265 = VideoCoding('h265').encoder(**facts).options['x265-params']
    assert x265 == f'log-level=error:master-display={DISPLAY}:max-cll=1000,400'
    x264 = VideoCoding('h264').encoder(**facts).options['x264-params']
    assert x264 == f'mastering-display={DISPLAY}:cll=1000,400'
    svt = VideoCoding('av1').encoder(**facts).options['svtav1-params']
    assert svt == (
        'mastering-display=G(0.26500,0.69000)B(0.15000,0.06000)R(0.68000,0.32000)WP(0.31270,0.32900)'
        'L(1000.00000,0.00500):content-light=1000,400'
    )


@pytest.mark.parametrize(
    ('asked', 'complaint'),
    [
        ({'crf': 52}, '--crf 52: for h264 or h265, expected 0 .* to 51'),
        ({'codec': 'av1', 'crf': 64}, '--crf 64: for av1, expected 0 .* to 63'),
        ({'preset': '5'}, '--preset 5: for h264 or h265, expected ultrafast, .* placebo'),
        ({'codec': 'av1', 'preset': 'slow'}, '--preset slow: for av1, expected 0'),
        ({'codec': 'av1', 'preset': '14'}, '--preset 14: for av1'),
    ],
)
def test_values_that_the_codec_does_not_take_are_refused(asked, complaint):
    with pytest.raises(RequestError, match=complaint):
        VideoCoding(**asked).check()


@pytest.fixture
def pyav_without(monkeypatch):
    """A mock of a PyAV that was built without some encoders, because the one at hand has all."""
    import av

    codec = av.codec.Codec

    def lacks(*missing, has=()):
        def find(name, mode):
            if name in missing:
                raise UnknownCodecError(name)
            return codec('libx264' if name in has else name, mode)

        monkeypatch.setattr(av.codec, 'Codec', find)

    return lacks


def test_a_codec_that_the_installed_pyav_lacks_is_refused_with_those_that_it_has(pyav_without):
    pyav_without('libsvtav1', 'libaom-av1', 'libx265')
    with pytest.raises(RequestError, match=r'--codec av1: .*no encoder for it \(looked for libsvtav1, .*from: h264\.'):
        VideoCoding('av1').encoder(is_deep=False)
    with pytest.raises(RequestError, match=r'--codec h265: .*pip install --upgrade av'):
        VideoCoding().encoder(is_deep=True)
    assert VideoCoding().encoder(is_deep=False).name == 'libx264'


def test_another_av1_encoder_is_used_and_says_what_it_cannot_do(pyav_without):
    pyav_without('libsvtav1', has=('libaom-av1',))
    found = VideoCoding('av1', crf=30, preset='4').encoder(is_deep=True, mastering_display=DISPLAY)
    assert (found.name, found.options) == ('libaom-av1', {'crf': '30', 'b': '0', 'cpu-used': '4'})
    assert 'HDR10' in found.notes[0]
    with pytest.raises(RequestError, match=r'libaom-av1, takes 0 .* to 8'):
        VideoCoding('av1', preset='9').encoder(is_deep=False)
