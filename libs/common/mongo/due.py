"""How processes share work that is due: each document is taken by one of them, and is due again later by itself."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection

from common.ids import new_id
from common.mongo.client import Document

EVERY: Mapping[str, Any] = MappingProxyType({})


async def take_due(
    collection: AsyncCollection[Document],
    due_at: str,
    moved: Document,
    limit: int,
    *,
    where: Mapping[str, Any] = EVERY,
) -> list[Document]:
    """The documents whose moment `due_at` has come, those first that were due first, as they are after `moved` was set.

    `moved` has to set a later `due_at`. What keeps two callers from the same document is that write's condition; the
    token that it leaves says whose each one is.
    """
    due = {**where, due_at: {"$exists": True}, "$expr": {"$lte": [f"${due_at}", "$$NOW"]}}
    candidates = await collection.find(due, {"_id": 1}).sort(due_at, ASCENDING).limit(limit).to_list()
    if not candidates:
        return []
    ids = [document["_id"] for document in candidates]
    token = {f"{due_at}Token": new_id()}
    await collection.update_many({**due, "_id": {"$in": ids}}, [{"$set": {**moved, **token}}])
    return await collection.find({"_id": {"$in": ids}, **token}).to_list()
