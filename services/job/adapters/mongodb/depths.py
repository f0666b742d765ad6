"""How much waits and runs, from indexes and flows alone."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from common.contracts.job import RunState
from common.mongo.client import Document
from common.mongo.clock import NOW
from services.job.adapters.mongodb import pipelines
from services.job.adapters.mongodb.flows import AWAKE
from services.job.ports import Depth

MOST_PROCESSORS = 500


class MongoDepths:
    """`QueueDepths` over the collections of flows and of runs."""

    def __init__(self, flows: AsyncCollection[Document], runs: AsyncCollection[Document]) -> None:
        self._flows = flows
        self._runs = runs

    async def depths(self, live: Collection[str] = frozenset()) -> list[Depth]:
        queued, ages, running = await asyncio.gather(
            self._by_processor(
                self._flows,
                [
                    {"$match": {"processor": {"$gt": ""}, **AWAKE}},
                    {"$group": {"_id": "$processor", "value": {"$sum": {"$max": ["$queued", 0]}}}},
                ],
            ),
            self._by_processor(
                self._runs,
                [
                    # From flow to flow through the index; the first of each is due longest.
                    {"$match": {"state": RunState.QUEUED}},
                    {"$sort": {"state": 1, "flow": 1, "availableAt": 1}},
                    {"$group": {"_id": "$flow", "first": {"$first": "$availableAt"}}},
                    {"$group": {"_id": {"$first": {"$split": ["$_id", " "]}}, "first": {"$min": "$first"}}},
                    {"$project": {"value": {"$max": [{"$subtract": [NOW, "$first"]}, 0]}}},
                ],
            ),
            self._by_processor(
                self._runs, [{"$match": pipelines.RUNNING}, {"$group": {"_id": "$processor", "value": {"$sum": 1}}}]
            ),
        )
        wanted = {*queued, *ages, *running}
        names = sorted(wanted, key=lambda name: (name not in live, -queued.get(name, 0), name))[:MOST_PROCESSORS]
        return [Depth(name, queued.get(name, 0), ages.get(name, 0) / 1000, running.get(name, 0)) for name in names]

    @staticmethod
    async def _by_processor(collection: AsyncCollection[Document], pipeline: Sequence[Document]) -> dict[str, Any]:
        return {group["_id"]: group["value"] async for group in await collection.aggregate(pipeline)}
