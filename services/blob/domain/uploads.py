"""How a file is cut into parts.

A pure function of its size, and not a setting: an upload goes on after a restart, and no store has to remember it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from common.contracts.upload import MAX_PARTS

MIB = 1024 * 1024
# No smaller, because S3 takes no part below 5 MiB but the last; no larger, because it is what a lost line costs.
PART_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True)
class Part:
    """A part: its number from 1, and where it lies in the file, in bytes."""

    number: int
    offset: int
    size: int


def is_single(size: int) -> bool:
    """Whether a file of that size is sent by one request."""
    return size <= PART_BYTES


def part_size(size: int) -> int:
    """The size of every part but the last: whole MiB, and so that there are at most 10,000."""
    least = -(-size // MAX_PARTS)
    return max(PART_BYTES, -(-least // MIB) * MIB)


def part_count(size: int) -> int:
    return -(-size // part_size(size))


def part(size: int, number: int) -> Part:
    """Part `number` (from 1 to `part_count`) of a file of `size` bytes."""
    each = part_size(size)
    offset = (number - 1) * each
    return Part(number, offset, min(each, size - offset))


def parts_from(size: int, first: int) -> Iterator[Part]:
    """The parts from number `first` on."""
    return (part(size, number) for number in range(first, part_count(size) + 1))
