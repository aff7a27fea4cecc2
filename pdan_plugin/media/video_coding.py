"""How videos are coded: the encoder, its quality and its speed. PyAV is imported when an encoder is looked for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from pdan_plugin.errors import RequestError

X264, X265, AV1 = 'h264', 'h265', 'av1'
_SPEEDS = ('ultrafast', 'superfast', 'veryfast', 'faster', 'fast', 'medium', 'slow', 'slower', 'veryslow', 'placebo')
_AV1_SPEEDS = tuple(map(str, range(14)))
_FASTEST_OF_AOM = 8
_VISUALLY_LOSSLESS = 14  # constant rate factor of x264 and x265
# encoder -> its parameters for HDR10's mastering display and light levels; libaom-av1 has none
_HDR_WORDS = {
    'libx264': ('mastering-display', 'cll'),
    'libx265': ('master-display', 'max-cll'),
    'libsvtav1': ('mastering-display', 'content-light'),
}


@dataclass(frozen=True)
class _Codec:
    """A codec of results.

    Attributes:
        encoders: FFmpeg's names of its encoders, the preferred one first.
        crf: The default constant rate factor.
        worst_crf: The highest one; 0 is the lowest.
        presets: The names of its speeds.
    """

    encoders: tuple[str, ...]
    crf: int
    worst_crf: int
    presets: tuple[str, ...]


CODECS = {
    X264: _Codec(('libx264',), _VISUALLY_LOSSLESS, 51, _SPEEDS),
    X265: _Codec(('libx265',), _VISUALLY_LOSSLESS, 51, _SPEEDS),
    AV1: _Codec(('libsvtav1', 'libaom-av1'), 18, 63, _AV1_SPEEDS),
}


@dataclass(frozen=True)
class Encoder:
    """An encoder, and the options to open it with.

    Attributes:
        codec: A key of ``CODECS``.
        name: FFmpeg's name.
        tag: The four letters in the container; None for FFmpeg's choice.
        notes: Messages for the user.
    """

    codec: str
    name: str
    options: dict[str, str] = field(default_factory=dict)
    tag: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoCoding:
    """What was asked for; None is the default.

    Attributes:
        codec: 'h264', 'h265' or 'av1'. The default is h264, and h265 for videos of more than 8 bits.
        crf: The constant rate factor: 0 is the best, 51 (AV1: 63) the smallest. Default: 14, for AV1 18.
        preset: The encoder's speed: x264's and x265's names, or 0 (slowest) to 13 for AV1.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None

    def check(self) -> None:
        """Checks the values for the codec. Without a codec, both defaults take the same values.

        Raises:
            RequestError: The codec has no such crf or preset.
        """
        name, codec = self.codec or f'{X264} or {X265}', CODECS[self.codec or X264]
        if self.crf is not None and not 0 <= self.crf <= codec.worst_crf:
            raise RequestError(f'--crf {self.crf}: for {name}, expected 0 (best) to {codec.worst_crf}.')
        if self.preset is not None and self.preset not in codec.presets:
            expected = '0 (slowest) to 13 (fastest)' if codec.presets is _AV1_SPEEDS else ', '.join(codec.presets)
            raise RequestError(f'--preset {self.preset}: for {name}, expected {expected}.')

    def codec_for(self, *, is_deep: bool) -> str:
        """The codec for a video of more than 8 bits, or of 8."""
        return self.codec or (X265 if is_deep else X264)

    def encoder(
        self, *, is_deep: bool, mastering_display: str | None = None, content_light: str | None = None
    ) -> Encoder:
        """The encoder of the installed PyAV for a video.

        Args:
            is_deep: Whether the video has more than 8 bits.
            mastering_display: HDR10's mastering display, in x265's form.
            content_light: ``MaxCLL,MaxFALL``.

        Raises:
            RequestError: PyAV is missing, or has no such encoder.
        """
        name = self.codec_for(is_deep=is_deep)
        codec = CODECS[name]
        found = next((each for each in codec.encoders if _is_installed(each, is_deep=is_deep)), None)
        if found is None:
            others = [each for each in CODECS if any(_is_installed(one) for one in CODECS[each].encoders)]
            depth = ' for more than 8 bits' if is_deep and any(map(_is_installed, codec.encoders)) else ''
            raise RequestError(
                f'--codec {name}: the installed PyAV has no encoder for it{depth} (looked for '
                f'{", ".join(codec.encoders)}): pip install --upgrade av, or choose from: '
                f'{", ".join(others) or "none"}.'
            )
        options = {'crf': str(codec.crf if self.crf is None else self.crf)}
        if found == 'libsvtav1':
            os.environ.setdefault('SVT_LOG', '1')  # errors alone; it prints its settings otherwise
        if name == AV1:
            options['b'] = '0'  # PyAV asks for a bit rate otherwise; libsvtav1 of PyAV 14 rejects it beside a crf
        if found == 'libaom-av1':
            options |= self._speed_of_aom()
        elif self.preset is not None:
            options['preset'] = self.preset
        options |= _parameters(found, mastering_display, content_light)
        notes = []
        if found not in _HDR_WORDS and (mastering_display or content_light):
            notes.append(f'left out: HDR10 metadata, which the encoder {found} cannot write')
        if name == X264 and is_deep:
            notes.append('10 bits in H.264 play in few programs; --codec h265 plays in more')
        tag = 'hvc1' if name == X265 else None  # Apple's players need it
        return Encoder(name, found, options, tag, tuple(notes))

    def _speed_of_aom(self) -> dict[str, str]:
        if self.preset is not None and int(self.preset) > _FASTEST_OF_AOM:
            raise RequestError(
                f'--preset {self.preset}: the AV1 encoder of the installed PyAV, libaom-av1, takes 0 (slowest) to '
                f'{_FASTEST_OF_AOM}.'
            )
        return {} if self.preset is None else {'cpu-used': self.preset}


def _is_installed(encoder: str, *, is_deep: bool = False) -> bool:
    from pdan_plugin.media.pyav import import_av

    av = import_av()
    try:
        codec = av.codec.Codec(encoder, 'w')
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return not is_deep or any(each.name == 'yuv420p10le' for each in codec.video_formats or ())


def _parameters(encoder: str, mastering_display: str | None, content_light: str | None) -> dict[str, str]:
    """The option with which HDR10's metadata reaches an encoder, and other parameters that it always gets."""
    if encoder not in _HDR_WORDS:
        return {}
    if encoder == 'libsvtav1' and mastering_display is not None:
        mastering_display = _in_units(mastering_display)
    given = dict(zip(_HDR_WORDS[encoder], (mastering_display, content_light), strict=True))
    parameters = [f'{name}={value}' for name, value in given.items() if value is not None]
    if encoder == 'libx265':
        parameters = ['log-level=error', *parameters]
    return {f'{encoder.removeprefix("lib")}-params': ':'.join(parameters)} if parameters else {}


def _in_units(mastering_display: str) -> str:
    """x265's whole numbers as SVT-AV1 takes them: chromaticities, and candela per square metre."""

    def pair(found: re.Match[str]) -> str:
        unit = 10000 if found[1] == 'L' else 50000
        return f'{found[1]}({int(found[2]) / unit:.5f},{int(found[3]) / unit:.5f})'

    return re.sub(r'([A-Z]+)\((\d+),(\d+)\)', pair, mastering_display)
