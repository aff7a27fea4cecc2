"""What a frame says about light and display beside its pixels: HDR10's metadata, which is copied, and what is lost."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pdan_plugin.media.pyav import side_data_of

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MASTERING = struct.Struct('=20i2i')  # FFmpeg's AVMasteringDisplayMetadata: ten fractions, two flags
_LIGHT = struct.Struct('=2I')  # FFmpeg's AVContentLightMetadata: MaxCLL, MaxFALL
_LOST = {
    'A53_CC': 'closed captions inside the pictures',
    'AMBIENT_VIEWING_ENVIRONMENT': 'the ambient light for viewing',
    'DOVI_METADATA': 'Dolby Vision metadata',
    'DOVI_RPU_BUFFER': 'Dolby Vision metadata',
    'DYNAMIC_HDR_PLUS': 'HDR10+ metadata',
    'DYNAMIC_HDR_VIVID': 'HDR Vivid metadata',
    'ICC_PROFILE': 'the colour profile of the pictures',
    'S12M_TIMECODE': 'the timecode of each frame',
    'SPHERICAL': 'the marks of a 360 degree video',
    'STEREO3D': 'the marks of a stereoscopic video',
}


def mastering_display(frame: VideoFrame) -> str | None:
    """The mastering display, ``G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)``, as x264 and x265 take it.

    Chromaticities are in units of 1/50000, luminances in units of 1/10000 candela per square metre.
    """
    data = side_data_of(frame, 'MASTERING_DISPLAY_METADATA')
    if data is None or len(data) < _MASTERING.size:
        return None
    *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(data)
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    if not (has_primaries and has_luminance) or not all(denominator for _, denominator in pairs):
        return None
    values = [over / under for over, under in pairs]
    rx, ry, gx, gy, bx, by, wx, wy = (round(value * 50000) for value in values[:8])
    least, most = (round(value * 10000) for value in values[8:])
    return f'G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})'


def content_light(frame: VideoFrame) -> str | None:
    """MaxCLL and MaxFALL, ``most,mean``, in candela per square metre."""
    data = side_data_of(frame, 'CONTENT_LIGHT_LEVEL')
    if data is None or len(data) < _LIGHT.size:
        return None
    most, mean = _LIGHT.unpack_from(data)
    return f'{most},{mean}'


def what_frame_loses(frame: VideoFrame) -> set[str]:
    """What the frame carries that a result does not."""
    return {words for name, words in _LOST.items() if side_data_of(frame, name) is not None}
