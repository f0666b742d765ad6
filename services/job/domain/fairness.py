"""Start-time fair queuing (Goyal, Vin and Cheng, SIGCOMM 1996), with tenants for flows and runs for packets.

A run's start tag is the greater of its tenant's tag and the clock, and it moves its tenant's tag on by 1 / weight.
The least start tag goes first. The clock is the greatest start tag that was served, so a tenant that comes back finds
its tag behind the clock, and gets no credit for the time that it was away.

What is kept where: decision 0014.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from services.job.domain.tenants import Tenants


@dataclass(slots=True)
class Flow:
    """About `queued` runs of a tenant that want the same; `last_start` is the start tag of the last one to start."""

    processor: str
    tenant: str
    tag: float = 0
    queued: int = 0
    last_start: float = -1

    @property
    def key(self) -> str:
        return flow_key(self.processor, self.tenant)


@dataclass(frozen=True, slots=True)
class Charge:
    """What a tenant owes for its runs: its tag becomes `max(tag, start) + cost`, and the clock at least `clock`."""

    start: float
    cost: float
    clock: float


def flow_key(processor: str, tenant: str) -> str:
    """A flow's id; no name of a processor, pinned or not, has a space."""
    return f"{processor} {tenant}"


def parts_of(key: str) -> tuple[str, str]:
    """The processor and the tenant of a flow's id."""
    processor, _, tenant = key.partition(" ")
    return processor, tenant


def deal(
    flows: Sequence[Flow], clock: float, slots: int, tenants: Tenants, room: MutableMapping[str, int | None]
) -> list[Flow]:
    """The flow of each run to start, the first one first; at most `slots`.

    `room` is how many runs of a tenant may start, None for no limit; it goes down as they are dealt. What a
    flow still has by its estimate goes first; where slots remain then, all flows are asked for more, because there
    may be more.
    """
    own: dict[str, list[Flow]] = defaultdict(list)
    for flow in flows:
        own[flow.tenant].append(flow)
    remaining = {flow.key: max(1, flow.queued) for flow in flows}
    starts = {flow.key: flow.last_start for flow in flows}

    def entry(tenant: str, start: float) -> tuple[bool, float, float, str]:
        is_empty = not any(remaining[flow.key] > 0 for flow in own[tenant])
        return is_empty, start, tags[tenant], tenant

    # Flows of one tenant share its tag, or it would get more by asking for more kinds of work.
    tags = {tenant: max(flow.tag for flow in mine) for tenant, mine in own.items()}
    heap = [entry(tenant, max(tag, clock)) for tenant, tag in tags.items() if room.get(tenant) != 0]
    heapq.heapify(heap)
    dealt: list[Flow] = []
    while heap and len(dealt) < slots:
        _, start, _, tenant = heapq.heappop(heap)
        flow = min(own[tenant], key=lambda flow: (remaining[flow.key] <= 0, starts[flow.key], flow.key))
        dealt.append(flow)
        remaining[flow.key] -= 1
        starts[flow.key] = start
        if (of_tenant := room.get(tenant)) is not None:
            room[tenant] = of_tenant - 1
        if room.get(tenant) != 0:
            heapq.heappush(heap, entry(tenant, start + 1 / tenants.of(tenant).weight))
    return dealt


def charges(flows: Sequence[Flow], clock: float, served: Mapping[str, int], tenants: Tenants) -> dict[str, Charge]:
    """What each tenant owes that was `served` so many runs, by flow; as `deal` saw the flows."""
    runs: dict[str, int] = defaultdict(int)
    starts: dict[str, float] = {}
    for flow in flows:
        runs[flow.tenant] += served.get(flow.key, 0)
        starts[flow.tenant] = max(clock, flow.tag, starts.get(flow.tenant, 0))
    return {
        tenant: Charge(starts[tenant], count / weight, starts[tenant] + (count - 1) / weight)
        for tenant, count in runs.items()
        if count and (weight := tenants.of(tenant).weight)
    }


def starts_before(flow: Flow, ahead: int, others: Sequence[Flow], clock: float, tenants: Tenants) -> int:
    """About how many runs start before the one that has so many of its own flow `ahead` of it.

    That run's start tag is known, so of each other flow those start before it whose start tags are less. What comes in
    the meantime, limits and other kinds of work aren't foreseen.
    """
    tag = max(flow.tag, clock) + ahead / tenants.of(flow.tenant).weight
    meanwhile = 0
    for other in others:
        if other.tenant != flow.tenant:
            earlier = math.ceil((tag - max(other.tag, clock)) * tenants.of(other.tenant).weight)
            meanwhile += max(0, min(other.queued, earlier))
    return ahead + meanwhile
