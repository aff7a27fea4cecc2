"""Colour profiles: which colours a profile is for, and the conversion of CMYK."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

_HEADER = 128  # bytes; ICC.1:2022, section 7.2
_DEVICE_CLASSES = (b'mntr', b'scnr', b'prtr', b'spac')  # a link or a list of names describes no picture


def profile_colours(profile: bytes) -> str | None:
    """The colour space that a profile is for: 'RGB', 'GRAY', 'CMYK', 'Lab' ...; None if it is no picture's profile."""
    if len(profile) < _HEADER or profile[36:40] != b'acsp' or profile[12:16] not in _DEVICE_CLASSES:
        return None
    return profile[16:20].decode('latin-1').strip()


def fitting_profile(profile: bytes | None, *, is_grey: bool, notes: list[str]) -> bytes | None:
    """The profile, or None if it is not for such a picture; then a note is added.

    A profile for RGB also fits a grey picture, whose three channels are equal.
    """
    if profile is None:
        return None
    colours = profile_colours(profile)
    if colours == 'RGB' or (colours == 'GRAY' and is_grey):
        return profile
    found = 'is damaged' if colours is None else f'is for {colours}, not for {"grey" if is_grey else "RGB"}'
    notes.append(f'its colour profile {found}, and was left out')
    return None


def cmyk_as_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """A CMYK picture as RGB, and the profile of the result: sRGB, by the picture's profile, if there is a usable one.

    Otherwise the plain formula is used. A note reports which.
    """
    if profile is not None and profile_colours(profile) == 'CMYK':
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
        try:
            converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode='RGB')
        except ImageCms.PyCMSError:
            converted = None
        if converted is not None:
            notes.append('CMYK, converted to sRGB by its profile')
            return converted, srgb.tobytes()
    notes.append('CMYK without a usable profile, converted by the plain formula: colours may differ')
    return image.convert('RGB'), None
