"""Pages of jobs: of each no more than a list shows, and all together no larger than a page may be."""

from collections.abc import Mapping
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Document
from services.front.adapters.mongodb.jobs import job_of
from services.front.domain.job import Job
from services.front.domain.listing import LISTED_OUTPUTS, PAGE_BYTES, JobPage

_OUTPUTS: Document = {"$ifNull": ["$outputs", []]}
_COUNT: Document = {"$size": _OUTPUTS}
_LISTED: list[Document] = [
    {
        "$set": {
            "outputs": {"$slice": [_OUTPUTS, LISTED_OUTPUTS]},
            "outputCount": {"$cond": [{"$gt": [_COUNT, LISTED_OUTPUTS]}, _COUNT, "$$REMOVE"]},
        }
    },
    {"$set": {"bytes": {"$bsonSize": "$$ROOT"}}},
]


async def read_page(
    jobs: AsyncCollection[Document], query: Mapping[str, Any], order: Mapping[str, int], limit: int
) -> JobPage:
    """Up to `limit` jobs that fit the query, in this order; at least one if there is any, and no more than make up
    `PAGE_BYTES`.
    """
    found: list[Document] = [{"$match": query}, {"$sort": dict(order)}, {"$limit": limit + 1}, *_LISTED]
    page: list[Job] = []
    size = 0
    async with await jobs.aggregate(found) as cursor:
        async for document in cursor:
            size += document["bytes"]
            if len(page) == limit or (page and size > PAGE_BYTES):
                return JobPage(page, more=True)
            page.append(job_of(document))
    return JobPage(page, more=False)
