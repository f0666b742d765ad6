"""How processes share work that is due: each document is claimed by one of them, and is due again later by itself.

A field of the document is the moment when something is to be done for it next. Whoever claims it moves that moment on,
which is the claim's lease: what a crash leaves undone is due again when the lease is over.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pymongo import ASCENDING, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from common.ids import new_id
from common.mongo.client import Document
from common.mongo.clock import NOW, from_now, is_due

ALL: Mapping[str, Any] = MappingProxyType({})


async def claim_due(
    collection: AsyncCollection[Document],
    due_at: str,
    change: Sequence[Document],
    limit: int,
    *,
    where: Mapping[str, Any] = ALL,
    fields: Sequence[str] | None = None,
) -> list[Document]:
    """At most `limit` documents whose moment `due_at` has come, as they are after `change`; those first that were due
    first. With `fields`, only these of each.

    `change` is an update pipeline that moves `due_at` on, or removes it. The condition of its write keeps two callers
    from one document; the token that it leaves in `{due_at}Token` names the claim.
    """
    due = {**where, **is_due(due_at)}
    candidates = await collection.find(due, {"_id": 1}).sort(due_at, ASCENDING).limit(limit).to_list()
    if not candidates:
        return []
    ids = {"_id": {"$in": [document["_id"] for document in candidates]}}
    token = {f"{due_at}Token": new_id()}
    await collection.update_many({**due, **ids}, [*change, {"$set": token}])
    return await collection.find({**ids, **token}, fields).to_list()


async def claim_task(tasks: AsyncCollection[Document], name: str, every_seconds: float) -> bool:
    """Whether this caller may do the task of that name, which is due once in `every_seconds` for all processes."""
    token = new_id()
    due = {"$lte": [{"$ifNull": ["$dueAt", NOW]}, NOW]}
    change = [
        {
            "$set": {
                "taker": {"$cond": [due, token, "$taker"]},
                "dueAt": {"$cond": [due, from_now(every_seconds), "$dueAt"]},
            }
        }
    ]
    try:
        task = await tasks.find_one_and_update({"_id": name}, change, upsert=True, return_document=ReturnDocument.AFTER)
    except DuplicateKeyError:  # another has just made it, and so has claimed it
        return False
    return task is not None and task["taker"] == token
