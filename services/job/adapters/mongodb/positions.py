"""How many runs start before a queued one: an estimate from the first runs of its flow and the tags of the others.

Both are asked for once in two seconds at most, however many ask for how many runs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pymongo.asynchronous.collection import AsyncCollection

from common.bounded import BoundedDict
from common.coalescer import Coalescer
from common.contracts.job import RunState
from common.mongo.client import Document, is_away
from services.job.adapters.mongodb.flows import MongoFlows
from services.job.domain.fairness import Flow, parts_of, starts_before
from services.job.domain.tenants import Tenants

FRESH_SECONDS = 2.0
MOST_AHEAD = 1_000
MOST_REMEMBERED = 64
MOST_LOADED = 16

Value = TypeVar("Value")


class _Recent(Generic[Value]):
    """What was loaded in the last two seconds, by key; what isn't there is loaded once for all that ask."""

    def __init__(self, load: Callable[[str], Awaitable[Value]], now: Callable[[], float]) -> None:
        self._load = load
        self._now = now
        self._known: BoundedDict[str, tuple[float, Value]] = BoundedDict(MOST_REMEMBERED)
        self._loads: Coalescer[str, Value] = Coalescer(self._load_all, is_away=is_away, max_batch=MOST_LOADED)

    def has(self, key: str) -> bool:
        return key in self._known and self._known[key][0] + FRESH_SECONDS > self._now()

    async def __call__(self, key: str) -> Value:
        return self._known[key][1] if self.has(key) else await self._loads(key)

    async def _load_all(self, keys: Sequence[str]) -> Sequence[Value]:
        missing = [key for key in dict.fromkeys(keys) if not self.has(key)]
        loaded = dict(zip(missing, await asyncio.gather(*map(self._load, missing)), strict=True))
        values = [loaded[key] if key in loaded else self._known[key][1] for key in keys]
        for key, value in loaded.items():
            self._known[key] = self._now(), value
        return values


@dataclass(frozen=True, slots=True)
class _Processor:
    """The flows that want one thing, and its clock."""

    flows: Mapping[str, Flow]
    clock: float


class MongoPositions:
    """Positions in the queue."""

    def __init__(
        self,
        flows: MongoFlows,
        runs: AsyncCollection[Document],
        tenants: Tenants,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flows = flows
        self._runs = runs
        self._tenants = tenants
        self._firsts = _Recent(self._load_firsts, now)
        self._processors = _Recent(self._load_processor, now)

    async def of(self, queued: Mapping[str, str]) -> dict[str, int]:
        """By a run's id; `queued` has the flow of each. Where that would take too many looks, some are left out."""
        keys = list(dict.fromkeys(queued.values()))
        new = [key for key in keys if not self._firsts.has(key)]
        left_out = {*new[MOST_LOADED:]}
        asked = {run_id: key for run_id, key in queued.items() if key not in left_out}
        estimates = await asyncio.gather(*(self._estimate(run_id, key) for run_id, key in asked.items()))
        return dict(zip(asked, estimates, strict=True))

    async def _estimate(self, run_id: str, key: str) -> int:
        processor, tenant = parts_of(key)
        firsts, of_processor = await asyncio.gather(self._firsts(key), self._processors(processor))
        flow = of_processor.flows.get(key, Flow(processor, tenant))
        ahead = firsts.get(run_id, len(firsts))
        return starts_before(flow, ahead, list(of_processor.flows.values()), of_processor.clock, self._tenants)

    async def _load_firsts(self, key: str) -> Mapping[str, int]:
        """The first runs of a flow, and how many are ahead of each."""
        found = await self._runs.aggregate(
            [
                {"$match": {"state": RunState.QUEUED, "flow": key}},
                {"$sort": {"availableAt": 1, "_id": 1}},
                {"$limit": MOST_AHEAD},
                {"$group": {"_id": None, "ids": {"$push": "$_id"}}},
            ]
        )
        ids = [run_id async for group in found for run_id in group["ids"]]
        return {run_id: n for n, run_id in enumerate(ids)}

    async def _load_processor(self, processor: str) -> _Processor:
        await self._flows.all_written()
        flows, clock = await asyncio.gather(self._flows.awake(processor, MOST_AHEAD), self._flows.clock([processor]))
        return _Processor({flow.key: flow for flow in flows}, clock)
