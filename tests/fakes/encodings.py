"""Each encoding's own library, to make inputs with."""

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable, Mapping

from gristmill.wire.processors import Encoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODE: Mapping[Encoding, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    # With a checksum, as the zstd tool does; the library leaves it out unless told so.
    "zstd": lambda content: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
}
