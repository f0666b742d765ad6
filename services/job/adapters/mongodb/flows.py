"""The flows of the queue: one document for each tenant and what its runs want, a hint whether a claim finds any.

The runs are the truth: a flow is written without waiting for a majority and may be lost. From `lookAt` on there may be
a run to take; without it there is none. Whatever puts a run into the queue writes the run
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
from common.mongo.client import Document, changes, is_away
from common.mongo.clock import is_due
from services.job.domain.fairness import Charge, Flow, flow_key, parts_of

log = get_logger()

Write = UpdateOne | UpdateMany

# Earlier than any moment of MongoDB's clock: look at once.
AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
AWAKE = {"lookAt": {"$exists": True}}
MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Queued:
    """Runs that have been put into a flow; the first of them is due at `due`."""

    processor: str
    tenant: str
    runs: int = 1
    due: datetime = AT_ONCE


@dataclass(frozen=True, slots=True)
class FlowSnapshot:
    """A flow as a claim read it, and its version then."""

    flow: Flow
    version: int


@dataclass(frozen=True, slots=True)
class Remainder:
    """What remains in a flow after a claim: when the next run is due, or None when there is none."""

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
        writes.append(UpdateOne({"_id": key}, {"$inc": {"queued": -runs}, "$max": {"lastStart": clock}}))
        clocks[processor] = max(clock, clocks.get(processor, 0.0))
    return writes + [
        UpdateOne({"_id": name}, {"$max": {"clock": clock}}, upsert=True) for name, clock in clocks.items()
    ]


def looking_later(remaining: Mapping[str, Remainder]) -> list[Write]:
    """Writes down when to look at the flows again, unless something was put into them meanwhile."""
    writes: list[Write] = []
    for key, remainder in remaining.items():
        if remainder.next_due is None:
            changes = {"$unset": {"lookAt": ""}, "$set": {"queued": 0}, "$currentDate": {"idleSince": True}}
        else:
            changes = {"$set": {"lookAt": remainder.next_due}}
        writes.append(UpdateOne({"_id": key, "version": remainder.version}, changes))
    return writes


class MongoFlows:
    """Over the collections of flows and of runs."""

    def __init__(self, flows: AsyncCollection[Document], runs: AsyncCollection[Document]) -> None:
        self._flows = flows
        self._runs = runs
        self._repaired = self._recounted = ""
        self._unwritten: list[Queued] = []
        self._next_write: asyncio.Future[None] | None = None
        self._write_under_way: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self.estimate: Coalescer[str, int] = Coalescer(self._estimates, is_away=is_away)

    def put(self, queued: Queued) -> None:
        """Updates the flow of runs that have been written, soon; nobody who queues a run waits for it.

        When it can't be written, the sweep will find the runs.
        """
        if self._next_write is None:
            self._next_write = asyncio.get_running_loop().create_future()
        self._unwritten.append(queued)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_queued())

    async def all_written(self) -> None:
        """Waits until all that was put so far is written."""
        newest = self._next_write or self._write_under_way
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

    async def look(
        self, processors: Sequence[str], without: Sequence[str], limit: int
    ) -> tuple[list[FlowSnapshot], float]:
        """The flows where there may be a run to take, those of least tag, but for tenants that may start none; and the
        clock of these processors.
        """
        query = {
            "processor": {"$in": list(processors)},
            **is_due("lookAt"),
            **({"tenant": {"$nin": list(without)}} if without else {}),
        }
        clocks: list[Document] = [{"$match": _clocks(processors)}, {"$project": {"clock": 1}}]
        found = await self._flows.aggregate(
            [
                {"$match": query},
                {"$sort": {"tag": 1}},
                {"$limit": limit},
                {"$unionWith": {"coll": self._flows.name, "pipeline": clocks}},
            ]
        )
        flows: list[FlowSnapshot] = []
        clock = 0.0
        async for document in found:
            if "clock" in document:
                clock = max(clock, document["clock"])
            else:
                flows.append(_snapshot(document))
        return flows, clock

    async def awake(self, processor: str, limit: int) -> list[Flow]:
        """Those with runs that want just this, those of least tag."""
        query = {"processor": processor, **AWAKE}
        return [_snapshot(found).flow async for found in self._flows.find(query).sort("tag", 1).limit(limit)]

    async def clock(self, processors: Sequence[str]) -> float:
        """The greatest start tag that was served to any of these."""
        clocks = self._flows.find(_clocks(processors), {"clock": 1})
        return max([found["clock"] async for found in clocks], default=0.0)

    async def write(self, writes: Sequence[Write]) -> None:
        """Carries out `serving` and `looking_later`."""
        if writes:
            await self._flows.bulk_write(writes)

    async def count(self, tenant: str) -> int:
        """How many runs of a tenant are queued, counted, of each flow 100,000 at most; the estimates are put right."""
        flows = self._flows.find({"tenant": tenant}, {"queued": 1})
        return sum(await asyncio.gather(*[self._recount(flow["_id"], flow["queued"]) async for flow in flows]))

    async def repair(self, limit: int) -> int:
        """Wakes flows that have runs but no `lookAt`. Returns how many it woke.

        One pass looks at `limit` flows, and the next one goes on from there. A run that is being queued meanwhile may
        be counted twice; a flow that runs empty is exact again.
        """
        queued = {"state": RunState.QUEUED, "flow": {"$gt": self._repaired}}
        # In order, or a pass would leave out for good what lies between.
        in_order: list[Document] = [{"$group": {"_id": "$flow"}}, {"$sort": {"_id": 1}}, {"$limit": limit}]
        found = await self._runs.aggregate([{"$match": queued}, *in_order])
        keys = [group["_id"] async for group in found]
        self._repaired = max(keys) if len(keys) == limit else ""
        if not keys:
            return 0
        awake = [flow["_id"] async for flow in self._flows.find({"_id": {"$in": keys}, **AWAKE}, {"_id": 1})]
        asleep = sorted({*keys} - {*awake})
        for key in asleep:
            flow = await self._flows.find_one({"_id": key}, {"queued": 1}) or {"queued": 0}
            await self._queued([Queued(*parts_of(key), 0)])
            await self._recount(key, flow["queued"])
        return len(asleep)

    async def recount(self, limit: int) -> None:
        """Corrects the counts of flows that are awake, and puts those to sleep that have no run: one can end without a
        claim, by a cancel or its deadline.

        One pass looks at `limit` flows, and the next one goes on from there.
        """
        query = {**AWAKE, "_id": {"$gt": self._recounted}}
        found = self._flows.find(query, {"queued": 1, "version": 1}).sort("_id", 1).limit(limit)
        flows = await found.to_list()
        self._recounted = flows[-1]["_id"] if len(flows) == limit else ""
        for flow in flows:
            if not await self._recount(flow["_id"], flow["queued"]):
                await self.write(looking_later({flow["_id"]: Remainder(flow["version"], None)}))

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

    async def _write_queued(self) -> None:
        try:
            while self._unwritten:
                batch, self._unwritten = self._unwritten, []
                written = self._write_under_way = self._next_write
                self._next_write = None
                try:
                    await self._queued(batch)
                except PyMongoError as error:
                    log.warning("flows.not_written", error=type(error).__name__, runs=len(batch))
                finally:
                    if written is not None:
                        written.set_result(None)
        finally:
            self._writer = self._write_under_way = None

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


def _clocks(processors: Sequence[str]) -> Document:
    return {"_id": {"$in": list(processors)}}


def _snapshot(found: Document) -> FlowSnapshot:
    flow = Flow(found["processor"], found["tenant"], found["tag"], found["queued"], found.get("lastStart", -1.0))
    return FlowSnapshot(flow, found["version"])
