"""What is done to which process and which link when: all from a seed, so that a run's plan can be had again."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

# Processes by the names of their logs; links by who calls whom. The tracker shares front's links.
PROCESSES = ("front", "tracker", "blob", "job", "processor-1", "processor-2", "mongod")
LINKS = ("front-blob", "front-job", "processor-blob", "processor-job", "job-front")
ON_PROCESSES: Mapping[str, float] = {"kill": 2, "stop": 1}
# A bit is turned only where bytes with a digest pass: that of a JSON answer would take TLS to notice.
ON_LINKS: Mapping[str, float] = {"late": 1, "stall": 1, "reset": 2, "drop": 2, "truncate": 1}
FLIPS_ON = "processor-blob"
# The runner gives up on a process that dies five times in a minute; and a service needs time to be up in between.
PAUSE_SECONDS = (1.5, 4.0)
QUIET_SECONDS = 15.0
# Past the lease of a run, which is 3 s in a soak, and short of it.
LASTING_SECONDS = (0.5, 6.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """At `at` seconds after the start. A kill is SIGKILL, a stop is SIGSTOP and SIGCONT after `seconds`; what is done
    to a link is in tests/support/proxy.py, and `number` is the byte that it is done at.
    """

    at: float
    kind: str
    victim: str
    seconds: float = 0.0
    number: int = 0


def faults(seed: int, seconds: float) -> list[Fault]:
    """The faults of a soak of so long, in order of their times; no victim has two within `QUIET_SECONDS`.

    Each process is killed once before any is hurt again.
    """
    processes = _stream(random.Random(f"processes {seed}"), PROCESSES, seconds)
    links = _stream(random.Random(f"links {seed}"), LINKS, seconds)
    return sorted([*processes, *links], key=lambda fault: fault.at)


def _stream(chance: random.Random, victims: tuple[str, ...], seconds: float) -> list[Fault]:
    plan: list[Fault] = []
    free_at = dict.fromkeys(victims, 0.0)
    fresh = chance.sample(victims, len(victims))
    at = chance.uniform(*PAUSE_SECONDS)
    while at < seconds:
        free = [victim for victim in victims if free_at[victim] <= at]
        if fresh or free:
            first = bool(fresh)
            victim = fresh.pop() if first else chance.choice(free)
            fault = _fault(chance, at, victim, first=first)
            free_at[victim] = at + fault.seconds + QUIET_SECONDS
            plan.append(fault)
        at += chance.uniform(*PAUSE_SECONDS)
    return plan


def _fault(chance: random.Random, at: float, victim: str, *, first: bool) -> Fault:
    if victim in PROCESSES:
        kinds = {"kill": 1.0} if first else ON_PROCESSES
    else:
        kinds = {**ON_LINKS, "flip": 2} if victim == FLIPS_ON else ON_LINKS
    (kind,) = chance.choices([*kinds], [*kinds.values()])
    lasts = 0.0 if kind in ("kill", "reset", "drop") else chance.uniform(*LASTING_SECONDS)
    return Fault(at, kind, victim, lasts, chance.randrange(1_000, 200_000))
