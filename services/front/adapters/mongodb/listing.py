"""An owner's jobs in MongoDB, newest first.

Both indexes begin with the owner and have the list's order in them, so a page is read where it begins. What else may be
asked for is decided on the index alone: a job that isn't wanted is never fetched.
"""

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Client, Document
from services.front.adapters.mongodb.pages import read_page
from services.front.domain.job import Owner
from services.front.domain.listing import Filters, JobPage, Position

_OWNER = [("tenant", ASCENDING), ("subject", ASCENDING)]
_ORDER = [("createdAt", DESCENDING), ("_id", DESCENDING)]
_FILTERED = [("processor", ASCENDING), ("name", ASCENDING), ("batchId", ASCENDING)]
INDEXES = [
    # Apart, because a job's status changes and none of the rest does.
    IndexModel([*_OWNER, *_ORDER, *_FILTERED], name="owned"),
    IndexModel([*_OWNER, ("status", ASCENDING), *_ORDER, *_FILTERED], name="ownedByStatus"),
]


class MongoListingStore:
    """The `ListingStore` of front, see `services.front.ports`."""

    def __init__(self, client: Client, database: str) -> None:
        self._jobs: AsyncCollection[Document] = client[database]["jobs"]

    async def create_indexes(self) -> None:
        await self._jobs.create_indexes(INDEXES)

    async def owned(self, owner: Owner, filters: Filters, after: Position | None, limit: int) -> JobPage:
        return await read_page(self._jobs, _query(owner, filters, after), dict(_ORDER), limit)


def _query(owner: Owner, filters: Filters, after: Position | None) -> Document:
    wanted = {"processor": filters.processor, "name": filters.name, "batchId": filters.batch_id}
    conditions: list[Document] = [
        {"tenant": owner.tenant, "subject": owner.subject},
        {field: value for field, value in wanted.items() if value is not None},
    ]
    if filters.statuses:
        conditions.append({"status": {"$in": [status.value for status in filters.statuses]}})
    if filters.created_after is not None:
        conditions.append({"createdAt": {"$gt": filters.created_after}})
    if filters.created_before is not None:
        conditions.append({"createdAt": {"$lt": filters.created_before}})
    if after is not None:
        # The first is where in the index the page begins, the second leaves out what came with its beginning.
        conditions.append({"createdAt": {"$lte": after.created_at}})
        conditions.append({"$or": [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": after.job_id}}]})
    return {"$and": conditions}
