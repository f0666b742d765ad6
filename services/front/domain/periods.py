"""Periods of time as a client writes them: seconds, or a number with `s`, `m`, `h` or `d`, such as `12h`."""

import re

from common.errors import Invalid

DAY = 86_400
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY}
_PERIOD = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")


def parse(text: str) -> int | None:
    """The seconds; None for what isn't a period."""
    period = _PERIOD.fullmatch(text)
    return int(period[1]) * _UNITS[period[2]] if period else None


def deadline(text: str | None, default_seconds: int, most_seconds: int) -> int:
    """The seconds that a job's run may take, as its owner asked. Raises `Invalid`, also for more than the most."""
    if text is None:
        return default_seconds
    seconds = parse(text)
    if seconds is None:
        raise _invalid("It should be seconds, or a number with `s`, `m`, `h` or `d` such as `15m`.")
    if seconds > most_seconds:
        raise _invalid(f"It should be at most {most_seconds:,} seconds, and is {seconds:,}.")
    return seconds


def _invalid(detail: str) -> Invalid:
    return Invalid(errors=[{"pointer": "/deadline", "detail": detail}])
