"""What a file is that was taken for a picture, a video or weights, by its first bytes."""

from __future__ import annotations

HEAD = 512  # bytes to look at

_PHOTOGRAPH = 'convert it to JPEG or PNG'
_UNPACK = 'unpack it'
_BEGINNINGS = (
    (b'version https://git-lfs', 'a pointer of Git LFS, not the file itself: git lfs pull'),
    (b'\xff\x0a', f'JPEG XL; {_PHOTOGRAPH}'),
    (b'\0\0\0\x0cJXL ', f'JPEG XL; {_PHOTOGRAPH}'),
    (b'v/1\1', 'OpenEXR; convert it to a TIFF or PNG of 16 bits'),
    (b'#?RADIANCE', 'Radiance HDR; convert it to a TIFF or PNG of 16 bits'),
    (b'#?RGBE', 'Radiance HDR; convert it to a TIFF or PNG of 16 bits'),
    (b'PF\n', 'PFM; convert it to a TIFF or PNG of 16 bits'),
    (b'P7\n', 'PAM; convert it to PNG'),
    (b'FUJIFILMCCD-RAW', f'raw camera data; {_PHOTOGRAPH}'),
    (b'IIRO', f'raw camera data; {_PHOTOGRAPH}'),
    (b'IIU\0', f'raw camera data; {_PHOTOGRAPH}'),
    (b'%PDF', 'PDF; save its pages as pictures'),
    (b'\0\5\x16\7', 'what macOS keeps beside a file, without the file itself'),
    (b'PK\3\4', f'a zip archive; {_UNPACK}'),
    (b'\x1f\x8b', f'a gzip archive; {_UNPACK}'),
    (b'BZh', f'a bzip2 archive; {_UNPACK}'),
    (b'\xfd7zXZ\0', f'an xz archive; {_UNPACK}'),
    (b"7z\xbc\xaf'\x1c", f'a 7-Zip archive; {_UNPACK}'),
    (b'Rar!', f'a RAR archive; {_UNPACK}'),
    (b'\x93NUMPY', 'a NumPy array'),
    (b'\x89HDF', 'HDF5'),
    (b'GGUF', 'a GGUF model'),
)
_BRANDS = {
    **dict.fromkeys((b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'), f'HEIC; {_PHOTOGRAPH}'),
    b'crx ': f'raw camera data; {_PHOTOGRAPH}',
}


def what_else(head: bytes) -> str | None:
    """What a file is by its first ``HEAD`` bytes, and what to do with it; None if they say nothing."""
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    if text.startswith((b'<!doctype html', b'<html')):
        return 'a web page, such as an error in place of a download: download the file again'
    if text.startswith((b'<svg', b'<?xml')):
        return 'XML, such as an SVG drawing; convert it to PNG'
    if head[4:8] == b'ftyp':
        return _BRANDS.get(head[8:12])
    if head[257:262] == b'ustar':
        return f'a tar archive; {_UNPACK}'
    return next((what for beginning, what in _BEGINNINGS if head.startswith(beginning)), None)


def as_text(head: bytes) -> str | None:
    """The first line of a text, by its first ``HEAD`` bytes, at most 60 characters of it; None for other files."""
    text = head.decode('utf-8', errors='ignore').removeprefix('\ufeff')
    if len(text.encode()) < len(head) - 6 or not all(letter.isprintable() or letter in '\t\r\n' for letter in text):
        return None  # up to three bytes of a letter may be cut off, and three are the mark at the beginning
    line = text.strip().partition('\n')[0].strip()
    return line if len(line) <= 60 else f'{line[:57]}...'
