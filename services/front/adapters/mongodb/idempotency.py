"""Idempotency keys in MongoDB: one document each, under a digest of its scope, that a TTL index removes.

The lease's end is by the server's clock. What keeps two requests from one key is the token: each write names it.
"""

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from common.mongo.client import Client, Document, literal
from common.mongo.clock import NOW, from_now
from services.front.domain.idempotency import Reservation

_RESERVATION = {
    "madeId": 1,
    "token": 1,
    "fingerprint": 1,
    "done": 1,
    "leaseMs": {"$subtract": ["$leaseUntil", NOW]},
}
INDEXES = [IndexModel([("expiresAt", ASCENDING)], name="expiry", expireAfterSeconds=0)]


class MongoIdempotencyStore:
    """The `IdempotencyStore` of front, see `services.front.ports`."""

    def __init__(self, client: Client, database: str) -> None:
        self.keys: AsyncCollection[Document] = client[database]["idempotencyKeys"]

    async def create_indexes(self) -> None:
        await self.keys.create_indexes(INDEXES)

    async def reserve(
        self, scope: str, new_id: str, token: str, lease_seconds: float, keep_seconds: float
    ) -> Reservation:
        # What isn't there sorts before every date: a new document has expired, and its lease has lapsed.
        free = {"$and": [{"$ne": ["$done", True]}, {"$lte": ["$leaseUntil", NOW]}]}
        stages: list[Document] = [
            # The TTL index is a minute late.
            {"$replaceWith": {"$cond": [{"$lte": ["$expiresAt", NOW]}, {"_id": "$_id"}, "$$ROOT"]}},
            {
                "$set": {
                    "madeId": {"$ifNull": ["$madeId", literal(new_id)]},
                    "token": {"$cond": [free, literal(token), "$token"]},
                    "leaseUntil": {"$cond": [free, from_now(lease_seconds), "$leaseUntil"]},
                    "expiresAt": {"$ifNull": ["$expiresAt", from_now(keep_seconds)]},
                }
            },
        ]
        while (document := await self._upserted(scope, stages)) is None:
            pass
        mine = document["token"] == token
        return Reservation(
            id=document["madeId"],
            mine=mine,
            taken_over=mine and document["madeId"] != new_id,
            fingerprint=document.get("fingerprint"),
            done=document.get("done", False),
            lease_seconds=document["leaseMs"] / 1000,
        )

    async def is_done(self, scope: str) -> bool:
        kept = {"$expr": {"$gt": ["$expiresAt", NOW]}}
        return await self.keys.find_one({"_id": scope, "done": True, **kept}, {"_id": 1}) is not None

    async def _upserted(self, scope: str, stages: list[Document]) -> Document | None:
        """None when another has just made the document, so that it is there now."""
        try:
            return await self.keys.find_one_and_update(
                {"_id": scope}, stages, _RESERVATION, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            return None

    async def renew(self, scope: str, token: str, lease_seconds: float) -> bool:
        fields = {"leaseUntil": from_now(lease_seconds)}
        return await self._change(scope, token, fields)

    async def seal(self, scope: str, token: str, fingerprint: str, lease_seconds: float) -> bool:
        fields = {"fingerprint": literal(fingerprint), "leaseUntil": from_now(lease_seconds)}
        return await self._change(scope, token, fields)

    async def finish(self, scope: str, token: str, keep_seconds: float) -> None:
        await self._change(scope, token, {"done": True, "expiresAt": from_now(keep_seconds)})

    async def release(self, scope: str, token: str) -> None:
        removed = await self.keys.delete_one({"_id": scope, "token": token, "fingerprint": {"$exists": False}})
        if not removed.deleted_count:
            await self._change(scope, token, {"leaseUntil": NOW})

    async def _change(self, scope: str, token: str, fields: Document) -> bool:
        mine = {"_id": scope, "token": token, "done": {"$exists": False}}
        return (await self.keys.update_one(mine, [{"$set": fields}])).matched_count > 0
