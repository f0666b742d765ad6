"""`Range` headers (RFC 9110, section 14), as far as blob answers them: one range of bytes."""

import re

from common.errors import RangeNotSatisfiable

# Longer numbers than any size can have are no range of ours, and cost nothing to refuse.
_ONE_RANGE = re.compile(r"bytes=[ \t]*(?P<first>[0-9]{0,30})-(?P<last>[0-9]{0,30})[ \t]*", re.IGNORECASE)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first and last byte asked for, both inclusive, of a body of `size` bytes; None for the whole body.

    The whole body is also the response to a header that can't be read, to another unit, and to several ranges: a
    server may ignore any `Range`, and a thousand small ranges would cost more than the body. Raises
    `RangeNotSatisfiable`, with the header that names the size.
    """
    match = _ONE_RANGE.fullmatch(header) if header else None
    if match is None or match["first"] == match["last"] == "":
        return None
    if match["first"] == "":
        first, last = max(0, size - int(match["last"])), size - 1
        satisfiable = int(match["last"]) > 0 and size > 0
    else:
        first, last = int(match["first"]), int(match["last"] or size)
        if match["last"] and last < first:
            return None
        satisfiable = first < size
    if not satisfiable:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return first, min(last, size - 1)
