"""PNG files made by hand, of kinds that no library at hand writes."""

import struct
import zlib


def png_of(parts):
    """A PNG of chunks: (kind, content)."""

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


def png_16(colour_type, pixels, *chunks):
    """A 16-bit PNG of (h, w) or (h, w, c), with further chunks before its pixels."""
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
    header = struct.pack('>IIBBBBB', pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    return png_of([(b'IHDR', header), *chunks, (b'IDAT', zlib.compress(rows)), (b'IEND', b'')])
