"""What follows the end of a job, in MongoDB: `retireAt` is when the tracker next has something to do for it.

It is set by the write that makes a job final (`MongoJobStore.apply`), and moves on with each thing that is done; while
one tracker works on it, it is that tracker's lease. So what a crash leaves undone is due again by itself, and no TTL
index could delete a document before its bytes.
"""

from collections.abc import Sequence

from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Client, Document, literal
from common.mongo.clock import from_now
from common.mongo.due import claim_due
from services.front.adapters.mongodb.jobs import job_of
from services.front.domain.job import Job

INDEXES = [
    IndexModel(
        [("retireAt", ASCENDING)],
        name="retiring",
        partialFilterExpression={"retireAt": {"$exists": True}},
    )
]


class MongoRetentionStore:
    """The `RetentionStore` of front, see `services.front.ports`."""

    def __init__(self, client: Client, database: str) -> None:
        self.jobs: AsyncCollection[Document] = client[database]["jobs"]
        self.batches: AsyncCollection[Document] = client[database]["batches"]

    async def create_indexes(self) -> None:
        await self.jobs.create_indexes(INDEXES)

    async def claim_retiring(self, lease_seconds: float, limit: int) -> Sequence[Job]:
        change = [{"$set": {"retireAt": from_now(lease_seconds)}}]
        return [job_of(document) for document in await claim_due(self.jobs, "retireAt", change, limit)]

    async def await_expiry(self, job_ids: Sequence[str], *, input_deleted: bool) -> None:
        # `expiresAt` as it is now, and not as the tracker read it: a read of the last output may have moved it since.
        fields: Document = {"retireAt": "$expiresAt"}
        if input_deleted:
            fields |= {"inputDeleted": True, "heldBytes": {"$sum": "$outputs.size"}}
        await self.jobs.update_many(_among(job_ids, deleted=False), [{"$set": fields}])

    async def bytes_deleted(self, job_ids: Sequence[str], record_seconds: float, *, deleted: bool = False) -> None:
        ended = {"$getField": {"field": "at", "input": {"$last": "$history"}}}
        fields = {
            "inputDeleted": True,
            "bytesDeleted": True,
            "retireAt": {"$add": [ended, int(record_seconds * 1000)]},
        }
        await self.jobs.update_many(_among(job_ids, deleted=deleted), [{"$set": fields}, {"$unset": "heldBytes"}])

    async def forget(self, jobs: Sequence[Job]) -> None:
        await self.jobs.delete_many({"_id": {"$in": [job.id for job in jobs]}})
        batch_ids = {job.batch_id for job in jobs if job.batch_id is not None}
        for batch_id in batch_ids:
            if await self.jobs.find_one({"batchId": batch_id}, {"_id": 1}) is None:
                await self.batches.delete_one({"_id": batch_id})

    async def output_read(self, job_id: str, n: int, grace_seconds: float) -> None:
        read = {"$setUnion": [{"$ifNull": ["$readOutputs", []]}, [literal(n)]]}
        everything = {"$eq": [{"$size": "$readOutputs"}, {"$size": "$outputs"}]}
        soon = from_now(grace_seconds)
        await self.jobs.update_one(
            {
                "_id": job_id,
                "retention.untilRead": True,
                "readOutputs": {"$ne": n},
                "bytesDeleted": {"$exists": False},
            },
            [
                {"$set": {"readOutputs": read}},
                {
                    "$set": {
                        "expiresAt": {"$cond": [everything, {"$min": ["$expiresAt", soon]}, "$expiresAt"]},
                        "retireAt": {"$cond": [everything, {"$min": ["$retireAt", soon]}, "$retireAt"]},
                    }
                },
            ],
        )


def _among(job_ids: Sequence[str], *, deleted: bool) -> Document:
    """One that its owner deletes while a tracker works on it is due from then on, and has to stay so."""
    return {"_id": {"$in": list(job_ids)}, "deletedAt": {"$exists": deleted}}
