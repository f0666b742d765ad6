"""The offers of processors in MongoDB, kept for when job is away."""

import json
from collections.abc import Sequence

from pymongo.asynchronous.collection import AsyncCollection

from common.contracts.job import OfferList
from common.mongo.client import Client, Document
from gristmill.wire.processors import OfferedProcessor


class MongoOfferStore:
    """The `OfferStore` of front: one document. Schemas are kept as JSON text, since their keys may begin with `$`."""

    def __init__(self, client: Client, database: str) -> None:
        self._kept: AsyncCollection[Document] = client[database]["kept"]

    async def save_offers(self, offers: Sequence[OfferedProcessor]) -> None:
        text = OfferList(items=list(offers)).model_dump_json(by_alias=True)
        await self._kept.replace_one({"_id": "offers"}, {"text": text}, upsert=True)

    async def load_offers(self) -> Sequence[OfferedProcessor] | None:
        document = await self._kept.find_one({"_id": "offers"})
        return None if document is None else OfferList.model_validate(json.loads(document["text"])).items
