"""Processors as they are offered: their names and versions, what they take, and how a file may come compressed."""

from typing import Annotated, Any, Literal

from pydantic import Field

from gristmill.wire import versions
from gristmill.wire.base import Timestamp, Wire

ProcessorName = Annotated[
    str,
    Field(
        pattern="^[a-z][a-z0-9-]{0,63}$",
        description="Up to 64 lower-case letters, digits and hyphens, the first a letter: the processor's name.",
    ),
]
ProcessorVersion = Annotated[
    str, Field(pattern=r"^\d+\.\d+\.\d+$", description="Three numbers such as `1.0.0`: major, minor, patch.")
]
Wanted = Annotated[
    str,
    Field(
        pattern=versions.PATTERN,
        max_length=128,
        description="`name`, `name@1`, `name@1.2` or `name@1.2.3`: a processor, which may be pinned to a version.",
    ),
]
"""What a run asks for: a processor's name, which may pin a version; see `gristmill.wire.versions`."""
Summary = Annotated[str, Field(max_length=500)]
MediaTypes = Annotated[list[str], Field(min_length=1, max_length=100)]
"""What a processor takes: `image/png`, `image/*`, `*/*`."""
Encoding = Literal["gzip", "bzip2", "xz", "zstd"]
"""How a file came compressed: an HTTP content coding, or one more of the kind. It is kept so, and decoded when read."""


class OfferedLimits(Wire):
    """The most that one run of a processor may use, where its author limits it: see `gristmill.Limits`."""

    memory_bytes: int | None = Field(None, ge=1)
    cpu_seconds: int | None = Field(None, ge=1)
    wall_seconds: float | None = Field(None, gt=0)
    output_bytes: int | None = Field(None, ge=1)
    max_input_bytes: int | None = Field(None, ge=1)


class ProcessorOffer(Wire):
    """What a processor can run; `params` is the JSON Schema (2020-12) of its parameters."""

    name: ProcessorName
    version: ProcessorVersion
    summary: Summary
    media_types: MediaTypes
    params: dict[str, Any]
    limits: OfferedLimits = Field(default_factory=OfferedLimits)


class OfferedVersion(Wire):
    """A version of a processor that was offered; it is `live` while a process renews its offer."""

    version: str
    summary: str
    media_types: list[str]
    params: dict[str, Any]
    limits: OfferedLimits = Field(default_factory=OfferedLimits)
    live: bool
    last_seen_at: Timestamp


class OfferedProcessor(ProcessorOffer):
    """A name that job keeps, described by its highest version, of the live ones if there are any.

    `versions` has them all, the highest first, each with its own description: a run that pins a version goes by that.
    """

    live: bool
    last_seen_at: Timestamp
    versions: list[OfferedVersion] = Field(default_factory=list)
