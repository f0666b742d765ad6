"""What an operator allows beyond what a processor takes: the size of a file, and how many files come in one batch."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.front.domain import media

_PATTERN = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+|[a-z0-9!#$&^_.+-]+/\*|\*/\*")


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise ValueError("a key is `maxBatchFiles` or a media type in lower case, such as image/png, image/* or */*")
    return value


class MediaLimits(BaseModel):
    """For files of one media type: how large each may be, in bytes, and how many of them a batch may have."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    max_bytes: int | None = Field(None, ge=1)
    max_batch_files: int | None = Field(None, ge=1)


class ProcessorLimits(BaseModel):
    """For one processor: how many files a batch may have, and limits by media type (every key but the one)."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)
    __pydantic_extra__: dict[Annotated[str, AfterValidator(_pattern)], MediaLimits]

    max_batch_files: int | None = Field(None, ge=1)

    @property
    def by_media_type(self) -> Mapping[str, MediaLimits]:
        return self.__pydantic_extra__


NONE = ProcessorLimits()


class Limits:
    """The limits of every processor, by name; one that has none has only the general limit of size."""

    def __init__(self, max_bytes: int, by_processor: Mapping[str, ProcessorLimits]) -> None:
        self.max_input_bytes = max_bytes
        self._by_processor = by_processor

    def of(self, processor: str) -> ProcessorLimits:
        return self._by_processor.get(processor, NONE)

    def max_bytes(self, processor: str, mimetype: str, takes: int | None) -> int:
        """The size of the largest file: by the most exact entry that has one, and never over the general limit or what
        the processor itself `takes`.
        """
        limits = self.of(processor).by_media_type
        most = (limits[pattern].max_bytes for pattern in media.patterns(mimetype) if pattern in limits)
        exact = next((limit for limit in most if limit is not None), None)
        return min(limit for limit in (exact, takes, self.max_input_bytes) if limit is not None)

    def batch_faults(self, processor: str, mimetypes: Sequence[str]) -> Iterator[str]:
        """What is wrong with a batch of files of these media types, in sentences."""
        limits = self.of(processor)
        if limits.max_batch_files is not None and len(mimetypes) > limits.max_batch_files:
            yield f"A batch for {processor} has at most {limits.max_batch_files} files."
        for pattern, limit in limits.by_media_type.items():
            most = limit.max_batch_files
            if most is not None and _count(pattern, mimetypes) > most:
                yield f"A batch for {processor} has at most {most} files of {pattern}."


def _count(pattern: str, mimetypes: Iterable[str]) -> int:
    return sum(pattern in media.patterns(mimetype) for mimetype in mimetypes)
