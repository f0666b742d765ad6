"""How long a job's bytes are kept after its end, and what a client may ask for."""

from dataclasses import dataclass

from common.errors import Invalid
from services.front.domain import periods
from services.front.domain.periods import DAY

UNTIL_READ = "until-read"


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
    seconds = periods.parse(text)
    if seconds is None:
        raise _invalid(f"It should be seconds, or a number with `s`, `m`, `h` or `d` such as `7d`, or `{UNTIL_READ}`.")
    if seconds > most_seconds:
        raise _invalid(f"It should be at most {most_seconds:,} seconds, and is {seconds:,}.")
    return Retention(seconds)


def _invalid(detail: str) -> Invalid:
    return Invalid(errors=[{"pointer": "/retention", "detail": detail}])
