"""What processors offer, in MongoDB: one document a name.

A descriptor is kept as JSON text: its JSON Schema has keys such as `$ref`, which MongoDB reads as its own.
"""

from collections.abc import Sequence

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from common.contracts.job import OfferedProcessor, ProcessorOffer
from common.mongo import Document, literal
from services.job.adapters.pipelines import NOW


class MongoOfferStore:
    """An `OfferStore` over one collection."""

    def __init__(self, offers: AsyncCollection[Document]) -> None:
        self._offers = offers

    async def offer(self, offers: Sequence[ProcessorOffer], live_seconds: float) -> None:
        updates = [UpdateOne({"_id": offer.name}, _offer(offer, live_seconds), upsert=True) for offer in offers]
        await self._offers.bulk_write(updates, ordered=False)

    async def offered(self, live_seconds: float, kept_seconds: float) -> list[OfferedProcessor]:
        kept = {"$expr": {"$gte": ["$lastSeenAt", _before(kept_seconds)]}}
        fields = {"descriptor": 1, "lastSeenAt": 1, "live": {"$gte": ["$lastSeenAt", _before(live_seconds)]}}
        return sorted(
            [
                OfferedProcessor(
                    **ProcessorOffer.model_validate_json(found["descriptor"]).model_dump(),
                    live=found["live"],
                    last_seen_at=found["lastSeenAt"],
                )
                async for found in self._offers.find(kept, fields)
            ],
            key=lambda offered: offered.name,
        )


def _offer(offer: ProcessorOffer, live_seconds: float) -> list[Document]:
    rank = literal([int(part) for part in offer.version.split(".")])
    # A higher version describes the name, but not after its last processor has gone.
    describes = {
        "$or": [
            {"$gte": [rank, {"$ifNull": ["$rank", []]}]},
            {"$lte": ["$describedAt", _before(live_seconds)]},
        ]
    }
    return [
        {
            "$set": {
                "lastSeenAt": NOW,
                "descriptor": {"$cond": [describes, literal(offer.to_wire().decode()), "$descriptor"]},
                "describedAt": {"$cond": [describes, NOW, "$describedAt"]},
                "rank": {"$cond": [describes, rank, "$rank"]},
            }
        }
    ]


def _before(seconds: float) -> Document:
    return {"$subtract": [NOW, round(seconds * 1000)]}
