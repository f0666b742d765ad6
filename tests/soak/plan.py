"""What is done to which process when: all from a seed, so that a run's plan can be had again."""

import random
from dataclasses import dataclass
from typing import Literal

SERVICES = ("services.front", "services.front.tracker", "services.blob", "services.job", "services.processor")
# The runner gives up on a process that dies five times in a minute; and a service needs time to be up in between.
PAUSE_SECONDS = (2.0, 6.0)
QUIET_SECONDS = 15.0
# Past the lease of a run, which is 3 s in a soak, and short of it.
STOPPED_SECONDS = (0.5, 6.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """`at` and `seconds` after the start; a kill is SIGKILL, a stop is SIGSTOP and SIGCONT after `seconds`."""

    at: float
    kind: Literal["kill", "stop"]
    victim: str
    seconds: float = 0.0


def faults(seed: int, seconds: float) -> list[Fault]:
    """The faults of a soak of so long, in order of their times; no victim dies twice within `QUIET_SECONDS`."""
    chance = random.Random(f"plan {seed}")
    plan: list[Fault] = []
    free_at = dict.fromkeys(SERVICES, 0.0)
    at = chance.uniform(*PAUSE_SECONDS)
    while at < seconds:
        victims = [service for service in SERVICES if free_at[service] <= at]
        if victims:
            victim = chance.choice(victims)
            if chance.random() < 2 / 3:
                fault = Fault(at, "kill", victim)
            else:
                fault = Fault(at, "stop", victim, chance.uniform(*STOPPED_SECONDS))
            free_at[victim] = at + fault.seconds + QUIET_SECONDS
            plan.append(fault)
        at += chance.uniform(*PAUSE_SECONDS)
    return plan
