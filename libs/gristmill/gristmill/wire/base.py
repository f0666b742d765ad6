"""What every body has in common: client and server import the same classes. Fields are camelCase on the wire."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]
"""A moment, RFC 3339 in UTC on the wire."""


class Wire(BaseModel):
    """A body between processes. Unknown fields are refused: a caller that sends one means something we would ignore."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def to_wire(self) -> bytes:
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class _Numbered(Protocol):
    number: int


Parts = TypeVar("Parts", bound=Sequence[_Numbered])


def without_gaps(parts: Parts) -> Parts:
    """For pydantic: the parts as they are. Raises `ValueError` unless they are sorted, from 1, without a gap."""
    if any(part.number != number for number, part in enumerate(parts, 1)):
        raise ValueError("parts are sorted by their numbers, which begin at 1 and have no gap")
    return parts
