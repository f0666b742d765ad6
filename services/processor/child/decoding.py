"""Decoding of an input that came compressed. What is decoded is hostile, so it is done in the run's own process.

A file may hold several members one after the other (`cat a.gz b.gz`, pigz, pbzip2, xz with threads, zstd's frames);
they are one file, as for the formats' own tools, and so are zero bytes between and after them. Anything else behind a
member is refused, though gzip and bzip2 only warn of it: it may be what is left of another member.
"""

import bz2
import lzma
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from isal import igzip_lib

from gristmill import InvalidInput, LimitExceeded
from gristmill.wire.processors import Encoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# isal can't read a gzip header with a checksum or with two texts across two calls, so each member is begun with at
# least this much, which is more than a header has unless it was made to be a nuisance.
CHUNK_BYTES = 128 * 1024
# What `xz -9` needs twice over, and what the zstd tool takes unless told otherwise. A header may ask for 4 GiB.
MAX_WINDOW_BYTES = 2**27
# Below this no ratio is harmful: a small file of blanks is no bomb.
HARMLESS_BYTES = 16 * 2**20

_MEMORY = re.compile("memory", re.IGNORECASE)


class _Decompressor(Protocol):
    """What the standard library's decompressors have in common, and isal's has too."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_ZSTD_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): MAX_WINDOW_BYTES.bit_length() - 1}
_DECOMPRESSORS: Mapping[Encoding, Callable[[], _Decompressor]] = {
    "gzip": partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_GZIP),
    "bzip2": bz2.BZ2Decompressor,
    "xz": partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, MAX_WINDOW_BYTES),
    "zstd": partial(zstd.ZstdDecompressor, options=_ZSTD_OPTIONS),
}
# bz2 has no error of its own, and the stubs of isal's call it an instance.
_BROKEN: tuple[type[Exception], ...] = (OSError, lzma.LZMAError, zstd.ZstdError, igzip_lib.IsalError)  # type: ignore[assignment]


def decode(source: Path, target: Path, encoding: Encoding, *, max_bytes: int, max_ratio: int) -> int:
    """Write what `source` decodes to into `target`, and return its size in bytes. Memory doesn't grow with it.

    Raises `InvalidInput` for a file that is broken, cut short or empty once decoded, and `LimitExceeded` as soon as
    more than `max_bytes` come out, or more than `max_ratio` times what came in.
    """
    by_ratio = max(max_ratio * source.stat().st_size, HARMLESS_BYTES)
    size = 0
    with source.open("rb") as encoded, target.open("wb") as decoded:
        for chunk in _decoded(encoded, encoding):
            size += len(chunk)
            if size > max_bytes:
                raise LimitExceeded(f"Decoded, the file is larger than the {max_bytes:,} bytes that are taken.")
            if size > by_ratio:
                raise LimitExceeded(f"Decoded, the file is more than {max_ratio:,} times as large as it came.")
            decoded.write(chunk)
    if not size:
        raise InvalidInput("Decoded, the file is empty.")
    return size


def _decoded(encoded: IO[bytes], encoding: Encoding) -> Iterator[bytes]:
    data = encoded.read(CHUNK_BYTES)
    while data:
        if len(data) < CHUNK_BYTES:
            data += encoded.read(CHUNK_BYTES)
        member = _DECOMPRESSORS[encoding]()
        while not member.eof:
            yield _decompressed(member, data, encoding)
            data = b""
            if member.needs_input and not member.eof:
                data = encoded.read(CHUNK_BYTES)
                if not data:
                    raise InvalidInput(f"The file is cut short: its {encoding} encoding doesn't come to its end.")
        data = _without_padding(member.unused_data, encoded)


def _decompressed(member: _Decompressor, data: bytes, encoding: Encoding) -> bytes:
    try:
        return member.decompress(data, CHUNK_BYTES)
    except _BROKEN as error:
        # Neither lzma nor zstd has an error of its own for this.
        if _MEMORY.search(str(error)):
            raise LimitExceeded(
                f"To be decoded, the file needs more than {MAX_WINDOW_BYTES:,} bytes of memory."
            ) from error
        raise InvalidInput(f"The file is broken, or isn't {encoding}.") from error


def _without_padding(data: bytes, encoded: IO[bytes]) -> bytes:
    """`data`, or what comes after it, from the first byte on that isn't zero; no bytes at the end of the file."""
    data = data.lstrip(b"\0")
    while not data and (more := encoded.read(CHUNK_BYTES)):
        data = more.lstrip(b"\0")
    return data
