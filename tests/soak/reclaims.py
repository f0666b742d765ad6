"""How long a run waits when its processor is killed or stopped, until another attempt at it is claimed: by the logs."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

CLAIMED = "run.claimed"
_ENDS = frozenset({"run.completed", "run.failed", "run.lost", "run.given_back"})


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a processor's log that tells of a run; `at` in seconds of Unix time."""

    at: float
    processor: str
    action: str
    run: str
    fence: int


def read(logs: Path) -> list[Said]:
    """All that the processors said of runs, in order of time."""
    return sorted(
        (said for log in logs.glob("processor*.log") for said in _of(log.stem, log.read_text().splitlines())),
        key=lambda said: said.at,
    )


def _of(processor: str, lines: Iterable[str]) -> Iterable[Said]:
    for line in lines:
        try:
            said = json.loads(line)
            at = datetime.fromisoformat(said["timestamp"]).timestamp()
            yield Said(at, processor, said["action"], said["run"], said["fence"])
        except (ValueError, KeyError, TypeError):  # not of a run, or cut by a kill
            continue


def seconds(said: Sequence[Said], interrupted: Iterable[tuple[str, float]]) -> list[float]:
    """For each interruption (a processor's name, when) and each run that the processor had then: how long until another
    attempt at it was claimed.

    A run that was not claimed again (it was done, but its processor died before it said so) doesn't count, nor does one
    whose processor went on and ended its attempt first.
    """
    waits = []
    for processor, at in interrupted:
        own = [each for each in said if each.processor == processor]
        after = [each for each in said if each.at > at]
        for held in _held(own, at):
            of_run = [each for each in after if each.run == held.run]
            again = [each.at for each in of_run if each.action == CLAIMED and each.fence > held.fence]
            ended = [each.at for each in of_run if each.action in _ENDS and each.fence == held.fence]
            if again and not (ended and ended[0] < again[0]):
                waits.append(again[0] - at)
    return waits


def _held(own: Iterable[Said], at: float) -> Iterable[Said]:
    """The claims of a processor that it had not brought to an end at a moment."""
    held: dict[str, Said] = {}
    for each in own:
        if each.at > at:
            break
        if each.action == CLAIMED:
            held[each.run] = each
        elif each.action in _ENDS:
            held.pop(each.run, None)
    return held.values()
