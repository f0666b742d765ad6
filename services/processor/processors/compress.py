"""`compress`: a file of any kind, compressed as zstd, gzip, xz or bzip2, in the form that the formats' own tools read.

The file goes through in chunks, so memory depends on format, level and threads, and never on the file's size.
"""

import bz2
import lzma
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Literal, Protocol, Self

from isal import isal_zlib
from pydantic import ConfigDict, Field, model_validator

from gristmill import Context, InputFile, Output, Params, Processor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class _Compressor(Protocol):
    """What the compressors of all four have in common."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


Format = Literal["zstd", "gzip", "xz", "bzip2"]

CHUNK_BYTES = 1024 * 1024
MAX_THREADS = 4
MAX_NAME = 128
_GZIP_WBITS = 31  # zlib's way to say: the largest window, and gzip's header
SUFFIXES: Mapping[Format, str] = {"zstd": ".zst", "gzip": ".gz", "xz": ".xz", "bzip2": ".bz2"}
MEDIA_TYPES: Mapping[Format, str] = {
    "zstd": "application/zstd",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
    "bzip2": "application/x-bzip2",
}
# zstd's levels above 19 need a window that other readers refuse unless told otherwise. gzip is ISA-L's: five times as
# fast as zlib, of which its 3 has about the ratio of level 4. The others' are those of their tools.
LEVELS: Mapping[Format, range] = {
    "zstd": range(1, 20),
    "gzip": range(4),
    "xz": range(10),
    "bzip2": range(1, 10),
}
DEFAULT_LEVELS: Mapping[Format, int] = {"zstd": 3, "gzip": 2, "xz": 6, "bzip2": 9}


def _levels_schema() -> list[dict[str, object]]:
    """Which level goes with which format. A format that isn't named is zstd."""
    return [
        {
            "if": {"properties": {"format": {"const": name}}, **({"required": ["format"]} if name != "zstd" else {})},
            "then": {"properties": {"level": {"minimum": levels.start, "maximum": levels.stop - 1}}},
        }
        for name, levels in LEVELS.items()
    ]


class CompressParams(Params):
    # In the schema too, so that front can refuse it before anything is kept.
    model_config = ConfigDict(json_schema_extra={"allOf": _levels_schema()})  # type: ignore[dict-item]  # pydantic's JSON is invariant

    format: Format = Field("zstd", description="The format of the output.")
    # No default in the schema, because there is one for each format.
    level: int = Field(
        default_factory=lambda known: DEFAULT_LEVELS[known.get("format", "zstd")],
        ge=0,
        le=19,
        description="Higher is smaller and slower: zstd 1 to 19 (3), gzip 0 to 3 (2), xz 0 to 9 (6), bzip2 1 to 9 (9).",
    )
    threads: int = Field(
        1, ge=1, le=MAX_THREADS, description="How many threads zstd uses; the other formats use one in any case."
    )

    @model_validator(mode="after")
    def _level_of_the_format(self) -> Self:
        levels = LEVELS[self.format]
        if self.level not in levels:
            raise ValueError(f"The levels of {self.format} are {levels.start} to {levels.stop - 1}.")
        return self


class Compress(Processor[CompressParams]):
    """Gives one file, named as the input with the format's suffix behind it, and with a checksum of its content inside.

    The same input, parameters and release of the libraries give the same bytes: no name and no time is written down.
    """

    name = "compress"
    version = "1.0.0"
    summary = "A file compressed as zstd, gzip, xz or bzip2."
    media_types = ("*/*",)
    params_model = CompressParams

    def process(self, file: InputFile, params: CompressParams, context: Context) -> Sequence[Output]:
        name = _name(file.name, SUFFIXES[params.format])
        path = context.new_file(name)
        try:
            with file.path.open("rb") as source, path.open("wb") as target:
                compressor = _compressor(params, file.size)
                done = 0
                while chunk := source.read(CHUNK_BYTES):
                    target.write(compressor.compress(chunk))
                    done += len(chunk)
                    context.progress(done / file.size)
                target.write(compressor.flush())
        except zstd.ZstdError as error:
            # What can go wrong there is memory, and zstd has no error of its own for it.
            raise MemoryError from error
        return [Output(name, MEDIA_TYPES[params.format], path)]


def _compressor(params: CompressParams, size: int) -> _Compressor:
    if params.format == "gzip":
        return isal_zlib.compressobj(params.level, wbits=_GZIP_WBITS)
    if params.format == "xz":
        return lzma.LZMACompressor(preset=params.level)
    if params.format == "bzip2":
        return bz2.BZ2Compressor(params.level)
    compressor = zstd.ZstdCompressor(
        options={
            zstd.CompressionParameter.compression_level: params.level,
            zstd.CompressionParameter.checksum_flag: 1,
            # 0 compresses in this thread; 1 would in another, while this one waits.
            zstd.CompressionParameter.nb_workers: params.threads if params.threads > 1 else 0,
        }
    )
    # So that whoever decodes it knows how much room it takes, and little work is done for a small file.
    compressor.set_pledged_input_size(size)
    return compressor


def _name(name: str, suffix: str) -> str:
    """The input's name, as far as it is safe in any file system and in a header, and the suffix behind it."""
    safe = re.sub(r"[^\w.-]+", "-", PurePath(name.replace("\\", "/")).name).strip("-.")
    return f"{safe[: MAX_NAME - len(suffix)] or 'file'}{suffix}"
