"""File names are labels: cleaned once when they arrive, never part of a path."""

import re
import unicodedata

from common.errors import Invalid

MAX_BYTES = 255
DEFAULT = "file"
# Control, format (bidi overrides, zero-width), surrogate, private-use and unassigned characters, line separators.
_UNWANTED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(name: str | None, pointer: str = "/name") -> str:
    """The last part of a path, without characters that could fool a reader or break a header.

    Raises `Invalid` for a name over 255 bytes.
    """
    last = re.split(r"[/\\]", name or "")[-1]
    label = "".join(char for char in last if unicodedata.category(char) not in _UNWANTED).strip()
    if len(label.encode()) > MAX_BYTES:
        raise Invalid(errors=[{"pointer": pointer, "detail": f"A name has at most {MAX_BYTES} bytes."}])
    return DEFAULT if label in {"", ".", ".."} else label
