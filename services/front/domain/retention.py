"""How long a job's bytes are kept after its end, and what a client may ask for."""

import re
from dataclasses import dataclass

from common.errors import Invalid

DAY = 86_400
UNTIL_READ = "until-read"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY}
_PERIOD = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")


@dataclass(frozen=True, slots=True)
class Retention:
    """Bytes are kept for `seconds` after the job is final, and with `until_read` for less once all was read."""

    seconds: int = 30 * DAY
    until_read: bool = False


DEFAULT = Retention()


def parse(text: str | None, most_seconds: int) -> Retention:
    """What a client asked for: `until-read`, or seconds, or a number with `s`, `m`, `h` or `d`. None is the most.

    Raises `Invalid` for what can't be read, and for more than `most_seconds`.
    """
    if text is None:
        return Retention(most_seconds)
    if text == UNTIL_READ:
        return Retention(most_seconds, until_read=True)
    period = _PERIOD.fullmatch(text)
    if period is None:
        raise _invalid(f"This is neither `{UNTIL_READ}` nor a number of seconds, nor one like `12h` or `7d`.")
    seconds = int(period[1]) * _UNITS[period[2]]
    if seconds > most_seconds:
        raise _invalid(f"Outputs are kept for {most_seconds} seconds at most.")
    return Retention(seconds)


def _invalid(detail: str) -> Invalid:
    return Invalid(errors=[{"pointer": "/retention", "detail": detail}])
