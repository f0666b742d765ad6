"""The last bytes of every blob's file: what the blob is, so that its bytes and their digest become visible together."""

import os
import struct
from dataclasses import dataclass

_FORMAT = struct.Struct(">8sIQ32s")
_MAGIC = b"gristml\n"
_VERSION = 1

FOOTER_BYTES = _FORMAT.size


@dataclass(frozen=True, slots=True)
class Footer:
    """The blob's size in bytes, without the footer, and its SHA-256."""

    size: int
    sha256: bytes

    def pack(self) -> bytes:
        return _FORMAT.pack(_MAGIC, _VERSION, self.size, self.sha256)


def read_footer(fd: int, file_size: int) -> Footer | None:
    """The footer of an open file; None when there is none that fits the file's size."""
    if file_size < FOOTER_BYTES:
        return None
    return unpack_footer(os.pread(fd, FOOTER_BYTES, file_size - FOOTER_BYTES), file_size)


def unpack_footer(packed: bytes, whole_size: int) -> Footer | None:
    """The footer in `packed`, the last bytes of `whole_size` ones; None when it doesn't fit that size."""
    if len(packed) < FOOTER_BYTES:
        return None
    magic, version, size, sha256 = _FORMAT.unpack(packed)
    if (magic, version, size) != (_MAGIC, _VERSION, whole_size - FOOTER_BYTES):
        return None
    return Footer(size, sha256)
