"""Bytes that wait for blob, in MongoDB."""

import time
from collections.abc import Collection, Sequence

from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Client, Document, literal
from common.mongo.clock import ago

INDEXES = [
    # `waiting_bytes` adds up the sizes from the index alone.
    IndexModel([("size", ASCENDING)], name="size"),
    IndexModel([("createdAt", ASCENDING)], name="age"),
]
_TOTAL_FRESH_SECONDS = 1.0


class MongoInlineStore:
    """The `InlineStore` of front: one document a job, of at most 8 MiB, under the job's id."""

    def __init__(self, client: Client, database: str) -> None:
        self.inline: AsyncCollection[Document] = client[database]["inline"]
        self._total = 0
        self._total_at = float("-inf")

    async def create_indexes(self) -> None:
        await self.inline.create_indexes(INDEXES)

    async def put(self, job_id: str, content: bytes) -> None:
        stages = [{"$set": {"content": literal(content), "size": len(content), "createdAt": "$$NOW"}}]
        await self.inline.bulk_write([UpdateOne({"_id": job_id}, stages, upsert=True)])

    async def get(self, job_id: str) -> bytes | None:
        document = await self.inline.find_one({"_id": job_id}, {"content": 1})
        return None if document is None else bytes(document["content"])

    async def delete(self, job_ids: Collection[str]) -> None:
        await self.inline.delete_many({"_id": {"$in": list(job_ids)}})

    async def waiting_bytes(self) -> int:
        if time.monotonic() - self._total_at > _TOTAL_FRESH_SECONDS:
            self._total_at = time.monotonic()
            self._total = await self._sum()
        return self._total

    async def _sum(self) -> int:
        cursor = await self.inline.aggregate(
            [{"$match": {"size": {"$gte": 0}}}, {"$group": {"_id": None, "total": {"$sum": "$size"}}}]
        )
        totals = await cursor.to_list()
        return int(totals[0]["total"]) if totals else 0

    async def older_than(self, seconds: float, limit: int) -> Sequence[str]:
        age = {"$expr": {"$lte": ["$createdAt", ago(seconds)]}}
        documents = await self.inline.find(age, {"_id": 1}).sort("createdAt", ASCENDING).limit(limit).to_list()
        return [document["_id"] for document in documents]
