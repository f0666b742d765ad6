"""Makes the faults of a plan, and writes down what was made when."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.network import disturb
from tests.soak.plan import Fault
from tests.support.local import Local
from tests.support.processes import children_of, until
from tests.support.proxy import Proxy

# A request that was refused so long after a fault has another reason.
GRACE_SECONDS = 15.0


@dataclass(slots=True)
class Done:
    """The faults that were made: of each victim and kind how many, when each began and ended, and which processors
    they met.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    times: list[tuple[float, float]] = field(default_factory=list)
    interrupted: list[tuple[str, float]] = field(default_factory=list)

    def explains(self, at: float) -> bool:
        """Whether a request may have been refused at this moment, by the monotonic clock."""
        return any(begun <= at <= ended + GRACE_SECONDS for begun, ended in self.times)

    def of(self, kind: str) -> int:
        return sum(count for (_, made), count in self.counts.items() if made == kind)


async def make(
    local: Local, links: dict[str, Proxy], plan: Sequence[Fault], done: Done, say: Callable[[str], None]
) -> None:
    """Each at its time; returns when the last is over, and what it killed runs again."""
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for fault in plan:
            await asyncio.sleep(max(0.0, begun + fault.at - time.monotonic()))
            say(
                f"{fault.at:6.1f} s  {fault.kind} {fault.victim}"
                + (f", {fault.seconds:.1f} s" if fault.seconds else "")
            )
            group.create_task(_make(local, links, fault, done))


async def _make(local: Local, links: dict[str, Proxy], fault: Fault, done: Done) -> None:
    begun = time.monotonic()
    if fault.victim in links:
        await disturb(links[fault.victim], fault)
    else:
        await until(lambda: fault.victim in pids(local))
        pid = pids(local)[fault.victim]
        if fault.victim.startswith("processor"):
            done.interrupted.append((fault.victim, time.time()))
        if fault.kind == "kill":
            os.kill(pid, signal.SIGKILL)
            await until(lambda: pids(local).get(fault.victim) not in (None, pid))
        else:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(fault.seconds)
            os.kill(pid, signal.SIGCONT)
    done.counts[fault.victim, fault.kind] += 1
    done.times.append((begun, time.monotonic()))


def pids(local: Local) -> dict[str, int]:
    """The processes that run, by the names of the logs that they write to."""
    found = {}
    for pid in children_of(local.pid):
        try:
            log = Path(f"/proc/{pid}/fd/2").readlink()
        except OSError:  # it has died meanwhile
            continue
        if log.suffix == ".log":
            found[log.stem] = pid
    return found
