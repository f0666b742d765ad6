"""A whole soak: clients and faults for some minutes, then the check."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.e2e.conftest import Local, environment, running
from tests.processes import until
from tests.soak import plan
from tests.soak.checker import Verdict, check
from tests.soak.clients import Client, Seen

CLIENTS = 8
FINAL_SECONDS = 60.0  # P1: what was acknowledged is final within 60 s of the restart


@dataclass(frozen=True, slots=True)
class Soak:
    """What was done, and what came of it."""

    seed: int
    seconds: float
    faults: Counter[str]
    seen: Seen
    verdict: Verdict
    settled_seconds: float


async def soak(folder: Path, seed: int, seconds: float, say: Callable[[str], None]) -> Soak:
    """Runs a Gristmill of its own in `folder`. What it finds is in the verdict; it raises only if it can't be run."""
    seen, done = Seen(), Counter[str]()
    async with running(environment(folder)) as local, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(local.client("acme", f"user-{n}")) for n in range(CLIENTS)]
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number, http in enumerate(clients):
                group.create_task(Client(number, seed, http, seen).hand_in(over))
            await _make_faults(local, plan.faults(seed, seconds), done, seen, say)
            over.set()
        say(f"{len(seen.jobs):,} jobs were acknowledged; now each is looked at")
        before = time.monotonic()
        verdict = await check(seen.jobs, clients, FINAL_SECONDS)
        return Soak(seed, seconds, done, seen, verdict, time.monotonic() - before)


async def _make_faults(
    local: Local, faults: list[plan.Fault], done: Counter[str], seen: Seen, say: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    stopped: set[asyncio.Task[None]] = set()
    for fault in faults:
        await asyncio.sleep(max(0.0, begun + fault.at - time.monotonic()))
        await until(partial(_runs, local, fault.victim))
        if fault.kind == "kill":
            await local.kill(fault.victim)
        else:
            stopped.add(asyncio.create_task(_stop(local, fault)))
        done[fault.kind] += 1
        say(f"{fault.at:6.1f} s  {fault.kind} {fault.victim}; {len(seen.jobs):,} jobs so far")
    await asyncio.gather(*stopped)


def _runs(local: Local, victim: str) -> bool:
    return local.pid_of(victim) is not None


async def _stop(local: Local, fault: plan.Fault) -> None:
    pid = local.pid_of(fault.victim)
    if pid is None:
        return
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(fault.seconds)
    os.kill(pid, signal.SIGCONT)
