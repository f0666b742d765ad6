"""Files of many kinds, and how they are read again."""

import bz2
import gzip
import io
import lzma
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from services.processor.processors.compress import Format

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DECODE: Mapping[Format, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "gzip": gzip.decompress,
    "xz": lzma.decompress,
    "bzip2": bz2.decompress,
}
BERLIN = {"Latitude": 52.52, "Longitude": -13.405, "Altitude": -34.5, "DateStamp": "2026:01:02"}


def encoded(kind: str = "JPEG", image: Image.Image | None = None, **options: Any) -> bytes:
    target = io.BytesIO()
    (image or Image.new("RGB", (60, 40), "teal")).save(target, kind, **options)
    return target.getvalue()


def exif(**names: Any) -> Image.Exif:
    """What a camera writes, with a place, maker's notes and a comment."""
    found = Image.Exif()
    found[0x010F], found[0x0110], found[0x0112] = names.get("make", "Canon (x)"), "EOS", 6
    found[0x02BC] = b"<x:xmpmeta>Berlin</x:xmpmeta>"
    camera = found.get_ifd(0x8769)
    camera |= {0x829A: 1 / 64, 0x8827: 400, 0x9003: "2026:01:02 03:04:05"}
    camera |= {0x927C: b"maker's notes of Berlin", 0xA432: (24.0, 70.0, 2.8, 4.0)}
    place = found.get_ifd(0x8825)
    place |= {1: "N", 2: (52.0, 31.0, 12.0), 3: "W", 4: (13.0, 24.0, 18.0), 5: b"\x01", 6: 34.5, 29: "2026:01:02"}
    return found


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
