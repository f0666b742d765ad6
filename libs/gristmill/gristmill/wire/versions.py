"""Which versions of a processor a run takes: `name`, or pinned as `name@1`, `name@1.2` or `name@1.2.3`."""

import re

PATTERN = r"^[a-z][a-z0-9-]{0,63}(@(0|[1-9]\d{0,8})(\.(0|[1-9]\d{0,8})){0,2})?$"
_WANTED = re.compile(PATTERN)


def is_wanted(text: str) -> bool:
    """Whether this names a processor, pinned or not."""
    return _WANTED.fullmatch(text) is not None


def name_of(wanted: str) -> str:
    """The name without the pin."""
    return wanted.partition("@")[0]


def offered_as(name: str, version: str) -> list[str]:
    """All that a processor of this version fits, so that a claim is a look-up: `name`, `name@1`, `name@1.2`, ..."""
    parts = version.split(".")
    return [name, *(f"{name}@{'.'.join(parts[:n])}" for n in range(1, len(parts) + 1))]
