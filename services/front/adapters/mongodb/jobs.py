"""Jobs in MongoDB: one document each, changed by conditional writes that are coalesced.

Times are the server's clock (`$$NOW`, which works in pipelines only), so an insert is an upsert with a pipeline.
`bulk_write` returns totals and not winners: where not every write of a batch took hold, the unique token that each
leaves in the history shows, in one majority read, which did.
A final job changes only when its bytes expire or its owner deletes it; a cached one is revalidated by reading just
those fields.
Parameters are kept as JSON text: BSON has no integers over 64 bits and nests no deeper than 100.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from common.bounded import BoundedDict
from common.coalescer import Coalescer
from common.ids import new_id
from common.mongo.client import Client, Document, is_away, literal, literals
from common.mongo.clock import from_now
from common.mongo.due import claim_due, claim_task
from services.front.domain.job import (
    FINAL,
    UNFINISHED,
    Job,
    JobError,
    NewJob,
    Output,
    Owner,
    Status,
    Transition,
    Upload,
)
from services.front.domain.retention import DEFAULT, Retention

INDEXES = [
    IndexModel(
        [("status", ASCENDING), ("leaseUntil", ASCENDING)],
        name="lapsed",
        partialFilterExpression={"leaseUntil": {"$exists": True}},
    ),
    IndexModel(
        [("cancelDueAt", ASCENDING)],
        name="cancels",
        partialFilterExpression={"cancelDueAt": {"$exists": True}},
    ),
]

REMEMBERED_JOBS = 2048
SMALL_OUTPUTS = 32
SMALL_PARAMS_CHARACTERS = 2048
_AFTER_THE_END = dict.fromkeys(("expiresAt", "inputDeleted", "bytesDeleted", "deletedAt"), 1)


# Seconds times 1,000, because MongoDB adds milliseconds. Jobs written before there was a retention have none.
_EXPIRY: Document = {"$add": ["$$NOW", {"$multiply": [{"$ifNull": ["$retention.seconds", DEFAULT.seconds]}, 1000]}]}
# What every end is followed by: see `services.front.adapters.mongodb.retention`.
_AT_THE_END: Document = {"expiresAt": _EXPIRY, "retireAt": "$$NOW"}


@dataclass(slots=True)
class _Write:
    """One conditional write; `token` is what it leaves behind if it takes hold. One that was `tried` may have done so,
    and finds its own token when it is repeated.
    """

    job_id: str
    operation: UpdateOne
    token: str
    tried: bool = False


class MongoJobStore:
    """The `JobStore` of front, see `services.front.ports`."""

    def __init__(self, client: Client, database: str) -> None:
        self.jobs: AsyncCollection[Document] = client[database]["jobs"]
        self.tasks: AsyncCollection[Document] = client[database]["tasks"]
        self._admin = client.admin
        self._ended: BoundedDict[str, tuple[Job, Document | None]] = BoundedDict(REMEMBERED_JOBS)
        self._find: Coalescer[str, Job | None] = Coalescer(self._find_batch, is_away=is_away)
        self._insert: Coalescer[_Write, bool] = Coalescer(self._insert_batch, is_away=is_away)
        self._change: Coalescer[_Write, bool] = Coalescer(self._change_batch, is_away=is_away)

    async def create_indexes(self) -> None:
        await self.jobs.create_indexes(INDEXES)

    async def insert_created(self, job: NewJob, lease_seconds: float) -> Job:
        return await self._inserted(job, [Status.CREATED], lease_seconds)

    async def insert_stored(self, job: NewJob, lease_seconds: float) -> Job:
        return await self._inserted(job, [Status.CREATED, Status.STORED], lease_seconds)

    async def _inserted(self, job: NewJob, history: list[Status], lease_seconds: float) -> Job:
        stages = where_nothing_is("status", {**new_fields(job, history), "leaseUntil": from_now(lease_seconds)})
        if await self._insert(_Write(job.id, UpdateOne({"_id": job.id}, stages, upsert=True), "")):
            return job.written(history, datetime.now(UTC))  # not read back: nobody decides by its times
        found = await self.find(job.id)
        if found is None:
            raise LookupError(f"The job {job.id} vanished.")
        return found

    async def _insert_batch(self, writes: Sequence[_Write]) -> Sequence[bool]:
        """Whether each was certainly not there before."""
        result = await self.jobs.bulk_write([write.operation for write in writes], ordered=False)
        inserted = result.upserted_ids or {}
        return [n in inserted for n in range(len(writes))]

    async def find(self, job_id: str) -> Job | None:
        return await self._find(job_id)

    async def _find_batch(self, ids: Sequence[str]) -> Sequence[Job | None]:
        known = self._ended.keys() & set(ids)
        unknown = set(ids) - known
        if known and unknown:
            fresh, still_there = await asyncio.gather(self.find_many(unknown), self._still_there(known))
        else:  # mostly, and without two more tasks
            fresh, still_there = await self.find_many(unknown), await self._still_there(known)
        for job in fresh.values():
            if job.status.is_final and _is_small(job):
                self._ended[job.id] = job, None
        found = {**fresh, **still_there}
        return [found.get(job_id) for job_id in ids]

    async def _still_there(self, job_ids: Collection[str]) -> dict[str, Job]:
        """Of jobs that have ended before, all but `_AFTER_THE_END` is known already."""
        if not job_ids:
            return {}
        found: dict[str, Job] = {}
        for document in await self.jobs.find({"_id": {"$in": list(job_ids)}}, _AFTER_THE_END).to_list():
            job_id = document["_id"]
            job, before = self._ended.get(job_id, (None, None))
            if job is not None:
                if document != before:
                    after = _after_the_end(document)
                    if any(getattr(job, name) != value for name, value in after.items()):
                        job = replace(job, **after)
                    self._ended[job_id] = job, document
                found[job_id] = job
        for job_id in set(job_ids) - found.keys():
            self._ended.pop(job_id, None)
        return found

    async def find_many(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        if not job_ids:
            return {}
        documents = await self.jobs.find({"_id": {"$in": list(set(job_ids))}}).to_list()
        return {document["_id"]: job_of(document) for document in documents}

    async def apply(self, job_id: str, transition: Transition, lease_seconds: float = 0) -> bool:
        token = new_id()
        stages: list[Document] = [
            {
                "$set": {
                    **literals(_encoded(transition.fields)),
                    **_held_bytes(transition.fields),
                    "status": transition.target.value,
                    "updatedAt": "$$NOW",
                    "history": {
                        "$concatArrays": [
                            "$history",
                            *_on_the_way(transition),
                            [{"status": transition.target.value, "at": "$$NOW", "token": token}],
                        ]
                    },
                    "leaseUntil": _lease(transition.target, lease_seconds),
                    **(_AT_THE_END if transition.target.is_final else {}),
                }
            },
            {"$unset": ["uploadDueAt", "phase", *(["cancelDueAt"] if transition.target.is_final else [])]},
        ]
        condition: Document = {"_id": job_id, "status": {"$in": [status.value for status in transition.sources]}}
        if transition.by_front_alone:
            condition |= {"$or": [{"status": Status.CREATED.value}, {"status": Status.STORED.value, "held": True}]}
        return await self._change(_Write(job_id, UpdateOne(condition, stages), token))

    async def _change_batch(self, writes: Sequence[_Write]) -> Sequence[bool]:
        none_tried = not any(write.tried for write in writes)
        for write in writes:
            write.tried = True
        result = await self.jobs.bulk_write([write.operation for write in writes], ordered=False)
        if result.matched_count == len(writes) or (result.matched_count == 0 and none_tried):
            return [result.matched_count > 0] * len(writes)
        ids = list({write.job_id for write in writes})
        documents = await self.jobs.find({"_id": {"$in": ids}}, {"history.token": 1}).to_list()
        tokens = {entry.get("token") for document in documents for entry in document["history"]}
        return [write.token in tokens for write in writes]

    async def renew(self, job_id: str, status: Status, lease_seconds: float) -> bool:
        stages = [{"$set": {"leaseUntil": from_now(lease_seconds)}}]
        result = await self.jobs.update_one({"_id": job_id, "status": status.value}, stages)
        return result.matched_count == 1

    async def claim_lapsed(self, statuses: Collection[Status], lease_seconds: float, limit: int) -> Sequence[Job]:
        change = [{"$set": {"leaseUntil": from_now(lease_seconds)}}]
        in_these = {"status": {"$in": [status.value for status in statuses]}}
        claimed = await claim_due(self.jobs, "leaseUntil", change, limit, where=in_these)
        return [job_of(document) for document in claimed]

    async def request_cancel(self, job_id: str, again_seconds: float) -> Job | None:
        stages = [{"$set": {"cancelDueAt": {"$ifNull": ["$cancelDueAt", from_now(again_seconds)]}}}]
        unfinished = {"_id": job_id, "status": {"$in": [status.value for status in UNFINISHED]}}
        document = await self.jobs.find_one_and_update(unfinished, stages, return_document=ReturnDocument.AFTER)
        return None if document is None else job_of(document)

    async def claim_cancels(self, again_seconds: float, limit: int) -> Sequence[Job]:
        change = [{"$set": {"cancelDueAt": from_now(again_seconds)}}]
        return [job_of(document) for document in await claim_due(self.jobs, "cancelDueAt", change, limit)]

    async def delete(self, job_id: str, again_seconds: float) -> Job | None:
        is_final = {"$in": ["$status", [status.value for status in FINAL]]}
        again = {"$ifNull": ["$cancelDueAt", from_now(again_seconds)]}
        stages: list[Document] = [
            {
                "$set": {
                    "deletedAt": "$$NOW",
                    # Out of the indexes of its owner's jobs: no query for these can find it.
                    "formerOwner": {"tenant": "$tenant", "subject": "$subject"},
                    "cancelDueAt": {"$cond": [is_final, "$$REMOVE", again]},
                    "retireAt": {"$cond": [is_final, "$$NOW", "$$REMOVE"]},
                }
            },
            {"$unset": ["tenant", "subject"]},
        ]
        seen = {"_id": job_id, "deletedAt": {"$exists": False}}
        document = await self.jobs.find_one_and_update(seen, stages, return_document=ReturnDocument.AFTER)
        return None if document is None else job_of(document)

    async def now(self) -> datetime:
        hello = await self._admin.command("hello", codec_options=self.jobs.codec_options)
        moment: datetime = hello["localTime"]
        return moment

    async def claim_task(self, name: str, every_seconds: float) -> bool:
        return await claim_task(self.tasks, name, every_seconds)


def _on_the_way(transition: Transition) -> list[Document]:
    """What comes into the history of a job that is still `STORED` before the transition's own entry."""
    if not transition.proves_submission:
        return []
    at: str | Document = "$$NOW"
    if transition.submitted_at is not None:  # job's MongoDB may be another, and a history is in the order of time
        at = {"$min": ["$$NOW", {"$max": [transition.submitted_at, {"$last": "$history.at"}]}]}
    submitted = {"status": Status.SUBMITTED.value, "at": at}
    return [{"$cond": [{"$eq": ["$status", Status.STORED.value]}, [submitted], []]}]


def _lease(target: Status, seconds: float) -> str | Document:
    """A job's lease in its new state: a final one has none, and one that is held waits for its batch."""
    if target.is_final:
        return "$$REMOVE"
    return {"$cond": ["$held", "$$REMOVE", from_now(seconds)]}


def _held_bytes(fields: Mapping[str, Any]) -> Document:
    """See `services.front.adapters.mongodb.usage`. The input goes in a later step."""
    if "size" in fields:
        return {"heldBytes": fields["size"]}
    if "outputs" in fields:
        return {"heldBytes": {"$add": ["$size", sum(output.size for output in fields["outputs"])]}}
    return {}


def where_nothing_is(field: str, fields: Document) -> list[Document]:
    """Stages of an upsert that write a document unless it is there, with `field`. Only two requests with one
    idempotency key can write the same: nothing that has come of it is undone.
    """
    new = {"$mergeObjects": ["$$ROOT", fields]}
    return [{"$replaceWith": {"$cond": [{"$gt": [f"${field}", None]}, "$$ROOT", new]}}]


def new_fields(job: NewJob, history: Sequence[Status]) -> Document:
    """What every new job has, for a pipeline's `$set`."""
    fields = {
        "tenant": job.owner.tenant,
        "subject": job.owner.subject,
        "status": history[-1].value,
        "name": job.name,
        "mimetype": job.mimetype,
        "encoding": job.encoding,
        "size": job.size,
        "heldBytes": job.size,
        "sha256": job.sha256,
        "processor": job.processor,
        "params": json.dumps(job.params),
        "retention": {"seconds": job.retention.seconds, "untilRead": job.retention.until_read},
        "deadlineSeconds": job.deadline_seconds,
        **({} if job.traceparent is None else {"traceparent": job.traceparent}),
    }
    return {
        **literals(fields),
        "createdAt": "$$NOW",
        "updatedAt": "$$NOW",
        "expiresAt": from_now(job.retention.seconds),
        "history": [{"status": literal(status.value), "at": "$$NOW"} for status in history],
    }


def _encoded(fields: Mapping[str, Any]) -> Document:
    encoded = dict(fields)
    if "outputs" in encoded:
        encoded["outputs"] = [asdict(output) for output in encoded["outputs"]]
    if "error" in encoded:
        encoded["error"] = asdict(encoded["error"])
    if (started_at := encoded.pop("started_at", None)) is not None:
        encoded["startedAt"] = started_at
    return encoded


def _after_the_end(document: Document) -> dict[str, Any]:
    """What may change of a job that has ended; `_AFTER_THE_END` in a document."""
    return {
        "expires_at": document.get("expiresAt"),
        "input_deleted": document.get("inputDeleted", False),
        "bytes_deleted": document.get("bytesDeleted", False),
        "deleted_at": document.get("deletedAt"),
    }


def _is_small(job: Job) -> bool:
    """Whether a job may be remembered, for their number is limited, not their size."""
    return len(job.outputs) <= SMALL_OUTPUTS and len(str(job.params)) <= SMALL_PARAMS_CHARACTERS


def job_of(document: Document) -> Job:
    """The job that a document is."""
    owner = document.get("formerOwner", document)
    error = document.get("error")
    upload = document.get("upload")
    retention = document.get("retention")
    return Job(
        id=document["_id"],
        owner=Owner(owner["tenant"], owner["subject"]),
        status=Status(document["status"]),
        name=document["name"],
        mimetype=document["mimetype"],
        size=document["size"],
        processor=document["processor"],
        params=json.loads(document["params"]),
        created_at=document["createdAt"],
        updated_at=document["updatedAt"],
        sha256=document.get("sha256"),
        encoding=document.get("encoding"),
        phase=document.get("phase"),
        attempt=document.get("attempt"),
        fence=document.get("fence"),
        outputs=tuple(Output(**output) for output in document.get("outputs", ())),
        output_count=document.get("outputCount"),
        error=JobError(**error) if error else None,
        history=tuple((Status(entry["status"]), entry["at"]) for entry in document["history"]),
        started_at=document.get("startedAt"),
        cancel_requested="cancelDueAt" in document,
        deadline_seconds=document.get("deadlineSeconds"),
        traceparent=document.get("traceparent"),
        batch_id=document.get("batchId"),
        upload=Upload(upload["sha256"], upload["expiresAt"], upload["bitsPerSecond"]) if upload else None,
        held=document.get("held", False),
        retention=Retention(retention["seconds"], retention["untilRead"]) if retention else DEFAULT,
        **_after_the_end(document),
    )
