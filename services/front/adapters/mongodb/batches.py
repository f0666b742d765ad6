"""Batches in MongoDB, and the jobs of theirs whose files are on their way to the store.

An upload's job has no lease, since no process works on it: `uploadDueAt` is when the tracker looks at it next.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from pymongo import ASCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Client, Document, literal, literals
from common.mongo.clock import from_now
from common.mongo.due import claim_due
from services.front.adapters.mongodb.jobs import job_of, new_fields, where_nothing_is
from services.front.adapters.mongodb.pages import read_page
from services.front.domain.batch import Batch, NewBatch
from services.front.domain.job import VERIFYING, Job, NewUpload, Owner, Status
from services.front.domain.listing import JobPage

JOB_INDEXES = [
    IndexModel(
        [("batchId", ASCENDING), ("_id", ASCENDING), ("status", ASCENDING), ("deletedAt", ASCENDING)],
        name="files",
        partialFilterExpression={"batchId": {"$exists": True}},
    ),
    IndexModel(
        [("uploadDueAt", ASCENDING)],
        name="uploads",
        partialFilterExpression={"uploadDueAt": {"$exists": True}},
    ),
    # Counted from the index alone.
    IndexModel(
        [("tenant", ASCENDING), ("subject", ASCENDING), ("uploadDueAt", ASCENDING)],
        name="announced",
        partialFilterExpression={"uploadDueAt": {"$exists": True}},
    ),
]
BATCH_INDEXES = [
    IndexModel([("heldDueAt", ASCENDING)], name="held", partialFilterExpression={"heldDueAt": {"$exists": True}})
]
FIRST_LOOK_SECONDS = 2
LONGEST_PAUSE_SECONDS = 300
MAX_DOUBLINGS = 8
_EVER = datetime.fromtimestamp(0, UTC)
_NOT_DELETED: Document = {"deletedAt": {"$exists": False}}


class MongoBatchStore:
    """The `BatchStore` of front, see `services.front.ports`."""

    def __init__(self, client: Client, database: str) -> None:
        self.jobs: AsyncCollection[Document] = client[database]["jobs"]
        self.batches: AsyncCollection[Document] = client[database]["batches"]

    async def create_indexes(self) -> None:
        await self.jobs.create_indexes(JOB_INDEXES)
        await self.batches.create_indexes(BATCH_INDEXES)

    async def insert_uploads(self, uploads: Sequence[NewUpload]) -> None:
        await self.jobs.bulk_write([_insert(upload) for upload in uploads], ordered=False)

    async def insert_batch(self, batch: NewBatch) -> None:
        fields = {
            "tenant": batch.owner.tenant,
            "subject": batch.owner.subject,
            "name": batch.name,
            "processor": batch.processor,
        }
        held = {"heldDueAt": "$$NOW"} if batch.held else {}
        stages = where_nothing_is("createdAt", {**literals(fields), **held, "createdAt": "$$NOW"})
        await self.batches.bulk_write([UpdateOne({"_id": batch.id}, stages, upsert=True)])

    async def find_batch(self, batch_id: str) -> Batch | None:
        return (await self.find_batches([batch_id])).get(batch_id)

    async def find_batches(self, batch_ids: Collection[str]) -> Mapping[str, Batch]:
        documents = await self.batches.find({"_id": {"$in": list(batch_ids)}}).to_list()
        return {document["_id"]: _batch(document) for document in documents}

    async def batch_jobs(self, batch_id: str, after: str, limit: int, *, deleted: bool = False) -> JobPage:
        query = {"batchId": batch_id, "_id": {"$gt": after}, **({} if deleted else _NOT_DELETED)}
        return await read_page(self.jobs, query, {"_id": ASCENDING}, limit)

    async def batch_counts(self, batch_id: str, *, deleted: bool = False) -> Mapping[Status, int]:
        cursor = await self.jobs.aggregate(
            [
                {"$match": {"batchId": batch_id}},
                # In a group, and not in the match, which could not be answered by the index alone.
                {"$group": {"_id": ["$status", {"$gt": ["$deletedAt", None]}], "count": {"$sum": 1}}},
            ]
        )
        counts: Counter[Status] = Counter()
        async for group in cursor:
            status, is_deleted = group["_id"]
            if deleted or not is_deleted:
                counts[Status(status)] += group["count"]
        return counts

    async def announced_files(self, owner: Owner, most: int) -> int:
        waiting = {"tenant": owner.tenant, "subject": owner.subject, "uploadDueAt": {"$gt": _EVER}}
        return await self.jobs.count_documents(waiting, limit=most)

    async def extend_upload(self, job_id: str, seconds: float, most: float) -> Job | None:
        latest = {"$min": [from_now(seconds), {"$add": ["$createdAt", int(most * 1000)]}]}
        stages: list[Document] = [
            {
                "$set": {
                    "upload.expiresAt": {"$max": ["$upload.expiresAt", latest]},
                    "uploadDueAt": from_now(FIRST_LOOK_SECONDS),
                    "uploadLooks": 0,
                }
            },
            {"$unset": "phase"},
        ]
        query = {"_id": job_id, "status": Status.CREATED.value, "upload": {"$exists": True}}
        document = await self.jobs.find_one_and_update(query, stages, return_document=ReturnDocument.AFTER)
        return None if document is None else job_of(document)

    async def claim_uploads(self, limit: int) -> Sequence[Job]:
        looks = {"$min": [{"$add": ["$uploadLooks", 1]}, MAX_DOUBLINGS]}
        pause = {"$min": [LONGEST_PAUSE_SECONDS, {"$multiply": [FIRST_LOOK_SECONDS, {"$pow": [2, looks]}]}]}
        change = [{"$set": {"uploadLooks": looks, "uploadDueAt": {"$add": ["$$NOW", {"$multiply": [pause, 1000]}]}}}]
        return [job_of(document) for document in await claim_due(self.jobs, "uploadDueAt", change, limit)]

    async def verifying(self, job_ids: Collection[str]) -> None:
        uploaded = {"_id": {"$in": list(job_ids)}, "status": Status.CREATED.value}
        await self.jobs.update_many(uploaded, {"$set": {"phase": VERIFYING}})

    async def claim_held(self, limit: int) -> Sequence[Batch]:
        change = [{"$set": {"heldDueAt": from_now(FIRST_LOOK_SECONDS)}}]
        return [_batch(document) for document in await claim_due(self.batches, "heldDueAt", change, limit)]

    async def release_batch(self, batch_id: str) -> None:
        # The jobs first: a crash in between leaves the batch held, and it is released again.
        stored = {"batchId": batch_id, "status": Status.STORED.value, "held": True}
        await self.jobs.update_many(stored, [{"$set": {"leaseUntil": "$$NOW"}}, {"$unset": "held"}])
        await self.batches.update_one({"_id": batch_id}, {"$unset": {"heldDueAt": ""}})

    async def forget(self, job_ids: Collection[str]) -> None:
        await self.jobs.delete_many({"_id": {"$in": list(job_ids)}})


def _insert(upload: NewUpload) -> UpdateOne:
    held = {"held": True} if upload.held else {}
    fields = {
        **new_fields(upload.job, [Status.CREATED]),
        **held,
        "batchId": literal(upload.batch_id),
        "upload": {
            "sha256": literal(upload.sha256),
            "expiresAt": from_now(upload.expires_seconds),
            "bitsPerSecond": upload.bits_per_second,
        },
        "uploadDueAt": from_now(FIRST_LOOK_SECONDS),
        "uploadLooks": 0,
    }
    return UpdateOne({"_id": upload.job.id}, where_nothing_is("status", fields), upsert=True)


def _batch(document: Document) -> Batch:
    return Batch(
        id=document["_id"],
        owner=Owner(document["tenant"], document["subject"]),
        name=document["name"],
        processor=document["processor"],
        held="heldDueAt" in document,
        created_at=document["createdAt"],
    )
