"""A whole soak: clients and faults for some minutes, then the check."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.soak import faults, plan, reclaims
from tests.soak.checker import Verdict, check
from tests.soak.clients import Client
from tests.soak.faults import Done
from tests.soak.network import network
from tests.soak.seen import NAP, Observations
from tests.support.local import environment, running

CLIENTS = 16
FINAL_SECONDS = 60.0  # P1: what was acknowledged is final within 60 s of the restart
SETTINGS = {
    "PROCESSORS": "2",
    # So many that there is no queue: a run that is tried again is last in it.
    "PROCESSOR_SLOTS": "8",
    # None of the runs is to blame for the death of its processor, and some meet more than three faults.
    "JOB_MAX_ATTEMPTS": "10",
    "JOB_BACKOFF_SECONDS": "0.1",
    "FRONT_IDEMPOTENCY_LEASE_SECONDS": "3",
    # Long enough that a kill often meets a run.
    "PROCESSOR_COMMANDS": json.dumps(
        [{"name": NAP, "argv": ["/bin/sh", "-c", "sleep 1; cat {input}"], "mediaTypes": ["*/*"]}]
    ),
}


@dataclass(frozen=True, slots=True)
class Soak:
    """What was done, and what came of it."""

    seed: int
    seconds: float
    done: Done
    seen: Observations
    verdict: Verdict
    settled_seconds: float
    reclaim_seconds: list[float]

    @property
    def unexpected(self) -> Counter[str]:
        """Refusals that no fault explains, or that no fault excuses."""
        refusals = self.seen.refusals
        return Counter(each.what for each in refusals if not (each.is_decent and self.done.explains(each.at)))

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        unexpected = (f"{count} times: {what}" for what, count in self.unexpected.items())
        return [*self.verdict.faults, *self.seen.again, *unexpected]


async def soak(folder: Path, seed: int, seconds: float, say: Callable[[str], None]) -> Soak:
    """Runs a Gristmill of its own in `folder`. What it finds is in the verdict; it raises only if it can't be run."""
    seen, done = Observations(), Done()
    async with AsyncExitStack() as stack:
        links, settings = await stack.enter_async_context(network({**environment(folder), **SETTINGS}))
        local = await stack.enter_async_context(running(settings))
        clients = [await stack.enter_async_context(local.client("acme", f"user-{n}")) for n in range(CLIENTS)]
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number, http in enumerate(clients):
                group.create_task(Client(number, seed, http, seen).hand_in(over))
            await faults.make(local, links, plan.faults(seed, seconds), done, say)
            over.set()
        say(f"{len(seen.jobs):,} jobs were acknowledged; now each is looked at")
        before = time.monotonic()
        verdict = await check(seen.jobs, clients, FINAL_SECONDS)
        settled = time.monotonic() - before
        waits = reclaims.seconds(reclaims.read(local.data / "logs"), done.interrupted)
        return Soak(seed, seconds, done, seen, verdict, settled, waits)
