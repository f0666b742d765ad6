"""The flows of the queue: one document for each tenant and what its runs want, which says whether a claim finds any.

A flow is a hint, and the runs are the truth: it is written without waiting for a majority and may be lost. `lookAt`
says when there may be a run to take; without it there is none. Whatever puts a run into the queue writes the run
first, and then the flow. A claim that leaves nothing behind takes `lookAt` away, unless `version` has changed since
it looked: so no run is overlooked. What a crash between both writes leaves behind, `repair` finds.

A processor's clock (see `services.job.domain.fairness`) lies in the same collection, by the processor's name.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo import UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from common.coalescer import Coalescer
from common.contracts.job import RunState
from common.logging import get_logger
from common.mongo.client import Document, changes
from services.job.adapters.mongodb import pipelines
from services.job.domain.fairness import Charge, Flow, flow_key, parts_of

log = get_logger()

Write = UpdateOne | UpdateMany

# Earlier than any moment of MongoDB's clock: look at once.
NOW = datetime(1970, 1, 1, tzinfo=UTC)
AWAKE = {"lookAt": {"$exists": True}}
MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Queued:
    """Runs that have been put into a flow; the first of them is due at `due`."""

    processor: str
    tenant: str
    runs: int = 1
    due: datetime = NOW


@dataclass(frozen=True, slots=True)
class Seen:
    """A flow as a claim saw it, and its version then."""

    flow: Flow
    version: int


@dataclass(frozen=True, slots=True)
class Left:
    """What a claim leaves behind in a flow: when the next run is due, or None when there is none."""

    version: int
    next_due: datetime | None


def serving(processors: Sequence[str], charges: Mapping[str, Charge], served: Mapping[str, int]) -> list[Write]:
    """Writes down what claims for these processors took: `charges` by tenant, and how many runs by flow."""
    clocks: dict[str, float] = {}
    writes: list[Write] = []
    for tenant, charge in charges.items():
        # All the tenant's flows that these processors take from, because they share its tag.
        wanted = {"tenant": tenant, "processor": {"$in": list(processors)}}
        tag = {"$add": [{"$max": ["$tag", charge.start]}, charge.cost]}
        writes.append(UpdateMany(wanted, [{"$set": {"tag": tag}}]))
    for key, runs in served.items():
        processor, tenant = parts_of(key)
        clock = charges[tenant].clock
        writes.append(UpdateOne({"_id": key}, {"$inc": {"queued": -runs}, "$max": {"turn": clock}}))
        clocks[processor] = max(clock, clocks.get(processor, 0.0))
    return writes + [
        UpdateOne({"_id": name}, {"$max": {"clock": clock}}, upsert=True) for name, clock in clocks.items()
    ]


def leaving(left: Mapping[str, Left]) -> list[Write]:
    """Writes down when the flows should be looked at again, unless something was put into them meanwhile."""
    writes: list[Write] = []
    for key, leaves in left.items():
        if leaves.next_due is None:
            changes = {"$unset": {"lookAt": ""}, "$set": {"queued": 0}, "$currentDate": {"idleSince": True}}
        else:
            changes = {"$set": {"lookAt": leaves.next_due}}
        writes.append(UpdateOne({"_id": key, "version": leaves.version}, changes))
    return writes


class MongoFlows:
    """Over the collections of flows and of runs."""

    def __init__(self, flows: AsyncCollection[Document], runs: AsyncCollection[Document]) -> None:
        self._flows = flows
        self._runs = runs
        self._repaired = ""
        self._unsaid: list[Queued] = []
        self._gathering: asyncio.Future[None] | None = None
        self._telling: asyncio.Future[None] | None = None
        self._teller: asyncio.Task[None] | None = None
        self.estimate: Coalescer[str, int] = Coalescer(self._estimates)

    def put(self, queued: Queued) -> None:
        """Tells the flow of runs that have been written, soon; nobody who queues a run waits for it.

        When it can't be told, the sweep will find the runs.
        """
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().create_future()
        self._unsaid.append(queued)
        if self._teller is None:
            self._teller = asyncio.create_task(self._tell())

    async def all_told(self) -> None:
        """Waits until flows have been told of all that was put until now."""
        newest = self._gathering or self._telling
        if newest is not None:
            await asyncio.shield(newest)

    async def changed(self) -> AsyncIterator[str]:
        """A change stream: what is wanted by runs that were put into a flow, by whichever process."""
        put = [
            {"fullDocument.version": {"$exists": True}},
            {"updateDescription.updatedFields.version": {"$exists": True}},
        ]
        watched = self._flows.with_options(read_concern=ReadConcern("majority"))
        async for change in changes(watched, [{"$match": {"$or": put}}, {"$project": {"documentKey": 1}}]):
            yield parts_of(change["documentKey"]["_id"])[0]

    async def eligible(self, processors: Sequence[str], without: Sequence[str], limit: int) -> list[Seen]:
        """The flows where there may be a run to take, those of least tag, but for tenants that may start none."""
        query = {
            "processor": {"$in": list(processors)},
            **AWAKE,
            **pipelines.due("lookAt"),
            **({"tenant": {"$nin": list(without)}} if without else {}),
        }
        return [_seen(found) async for found in self._flows.find(query).sort("tag", 1).limit(limit)]

    async def awake(self, processor: str, limit: int) -> list[Flow]:
        """Those with runs that want just this, those of least tag."""
        query = {"processor": processor, **AWAKE}
        return [_seen(found).flow async for found in self._flows.find(query).sort("tag", 1).limit(limit)]

    async def clock(self, processors: Sequence[str]) -> float:
        """The greatest start tag that was served to any of these."""
        clocks = self._flows.find({"_id": {"$in": list(processors)}}, {"clock": 1})
        return max([found["clock"] async for found in clocks], default=0.0)

    async def write(self, writes: Sequence[Write]) -> None:
        """What `serving` and `leaving` say."""
        if writes:
            await self._flows.bulk_write(writes)

    async def count(self, tenant: str) -> int:
        """How many runs of a tenant are queued, counted, of each flow 100,000 at most; the estimates are put right."""
        flows = self._flows.find({"tenant": tenant}, {"queued": 1})
        return sum(await asyncio.gather(*[self._recount(flow["_id"], flow["queued"]) async for flow in flows]))

    async def repair(self, limit: int) -> int:
        """Wakes flows that have runs and don't say so; returns how many it woke.

        One pass looks at `limit` flows, and the next one goes on from there. A run that is being queued meanwhile may
        be counted twice; a flow that runs empty is exact again.
        """
        queued = {"state": RunState.QUEUED, "flow": {"$gt": self._repaired}}
        # In order, or a pass would leave out for good what lies between.
        in_order: list[Document] = [{"$group": {"_id": "$flow"}}, {"$sort": {"_id": 1}}, {"$limit": limit}]
        found = await self._runs.aggregate([{"$match": queued}, *in_order])
        keys = [group["_id"] async for group in found]
        self._repaired = max(keys) if len(keys) == limit else ""
        awake = [flow["_id"] async for flow in self._flows.find({"_id": {"$in": keys}, **AWAKE}, {"_id": 1})]
        asleep = sorted({*keys} - {*awake})
        for key in asleep:
            flow = await self._flows.find_one({"_id": key}, {"queued": 1}) or {"queued": 0}
            await self._queued([Queued(*parts_of(key), 0)])
            await self._recount(key, flow["queued"])
        return len(asleep)

    async def _recount(self, key: str, estimate: int) -> int:
        runs = await self._runs.count_documents({"state": RunState.QUEUED, "flow": key}, limit=MOST_COUNTED)
        if runs != estimate:
            await self._flows.update_one({"_id": key}, {"$inc": {"queued": runs - estimate}})
        return runs

    async def _estimates(self, tenants: Sequence[str]) -> Sequence[int]:
        queued: Counter[str] = Counter()
        async for flow in self._flows.find({"tenant": {"$in": list(tenants)}}, {"tenant": 1, "queued": 1}):
            queued[flow["tenant"]] += max(0, flow["queued"])
        return [queued[tenant] for tenant in tenants]

    async def _tell(self) -> None:
        try:
            while self._unsaid:
                batch, self._unsaid = self._unsaid, []
                told = self._telling = self._gathering
                self._gathering = None
                try:
                    await self._queued(batch)
                except PyMongoError as error:
                    log.warning("flows.untold", error=type(error).__name__, runs=len(batch))
                finally:
                    if told is not None:
                        told.set_result(None)
        finally:
            self._teller = self._telling = None

    async def _queued(self, batch: Sequence[Queued]) -> None:
        together: dict[str, Queued] = {}
        for more in batch:
            key = flow_key(more.processor, more.tenant)
            others = together.get(key, Queued(more.processor, more.tenant, 0, more.due))
            together[key] = Queued(more.processor, more.tenant, others.runs + more.runs, min(others.due, more.due))
        await self._flows.bulk_write([_put(key, more) for key, more in together.items()], ordered=False)


def _put(key: str, more: Queued) -> UpdateOne:
    changes = {
        "$inc": {"queued": more.runs, "version": 1},
        "$min": {"lookAt": more.due},
        "$unset": {"idleSince": ""},
        "$setOnInsert": {"processor": more.processor, "tenant": more.tenant, "tag": 0.0},
    }
    return UpdateOne({"_id": key}, changes, upsert=True)


def _seen(found: Document) -> Seen:
    flow = Flow(found["processor"], found["tenant"], found["tag"], found["queued"], found.get("turn", -1.0))
    return Seen(flow, found["version"])
