"""The owners' budgets of requests, in MongoDB: one token bucket each, by its clock."""

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.write_concern import WriteConcern

from common.mongo.client import Client, Document
from services.front.domain.job import Owner
from services.front.domain.rate import Leased, RatePolicy

# A bucket that has filled up again is as good as none.
INDEXES = [IndexModel([("fullAt", ASCENDING)], name="full", expireAfterSeconds=60)]


class MongoBudgets:
    """The `Budgets` of front."""

    def __init__(self, client: Client, database: str) -> None:
        # A budget that a crash forgets costs some requests more, so nobody waits for a majority.
        self.budgets: AsyncCollection[Document] = client[database].get_collection(
            "budgets", write_concern=WriteConcern(w=1)
        )

    async def create_indexes(self) -> None:
        await self.budgets.create_indexes(INDEXES)

    async def lease(self, owner: Owner, requests: int, policy: RatePolicy) -> Leased:
        per_ms = policy.requests / (policy.seconds * 1000)
        passed = {"$max": [0, {"$subtract": ["$$NOW", {"$ifNull": ["$at", "$$NOW"]}]}]}
        saved = {"$add": [{"$ifNull": ["$remaining", policy.requests]}, {"$multiply": [passed, per_ms]}]}
        pipeline: list[Document] = [
            {"$set": {"remaining": {"$min": [policy.requests, saved]}, "at": "$$NOW"}},
            {"$set": {"given": {"$min": [requests, {"$floor": "$remaining"}]}}},
            {
                "$set": {
                    "remaining": {"$subtract": ["$remaining", "$given"]},
                    "fullAt": {"$add": ["$$NOW", policy.seconds * 1000]},
                }
            },
        ]
        found = await self.budgets.find_one_and_update(
            {"_id": {"tenant": owner.tenant, "subject": owner.subject}},
            pipeline,
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        bucket: Document = found or {}  # there always is one: it's upserted
        given = int(bucket["given"])
        return Leased(given) if given else Leased(0, (1 - bucket["remaining"]) / per_ms / 1000)
