"""What owners keep, added up in MongoDB from `heldBytes`, which each job has until its bytes are deleted."""

from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Client, Document
from services.front.domain.job import Owner

# Only where there is a quota: every job pays for an index. The sums come from it alone.
INDEXES = [
    IndexModel(
        [("tenant", ASCENDING), ("subject", ASCENDING), ("heldBytes", ASCENDING)],
        name="usage",
        partialFilterExpression={"heldBytes": {"$gt": 0}},
    )
]


class MongoUsageStore:
    """The `UsageStore` of front, see `services.front.ports`."""

    def __init__(self, client: Client, database: str) -> None:
        self.jobs: AsyncCollection[Document] = client[database]["jobs"]

    async def create_indexes(self) -> None:
        await self.jobs.create_indexes(INDEXES)

    async def owner_bytes(self, owner: Owner) -> int:
        return await self._sum({"tenant": owner.tenant, "subject": owner.subject})

    async def tenant_bytes(self, tenant: str) -> int:
        return await self._sum({"tenant": tenant})

    async def _sum(self, whose: Document) -> int:
        cursor = await self.jobs.aggregate(
            [
                {"$match": {**whose, "heldBytes": {"$gt": 0}}},
                {"$group": {"_id": None, "bytes": {"$sum": "$heldBytes"}}},
            ]
        )
        return sum([int(group["bytes"]) async for group in cursor])
