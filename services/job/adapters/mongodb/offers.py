"""What processors offer, in MongoDB: one document a version of a name.

A descriptor is kept as JSON text: its JSON Schema has keys such as `$ref`, which MongoDB reads as its own. It is all
that is read: what an older job left, one document a name, counts as the version that it describes.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from pymongo import DeleteMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from common.mongo.client import Document, literal
from common.mongo.clock import NOW, ago
from gristmill.wire.processors import OfferedProcessor, OfferedVersion, ProcessorOffer


class MongoOfferStore:
    """An `OfferStore` over one collection."""

    def __init__(self, offers: AsyncCollection[Document]) -> None:
        self._offers = offers

    async def offer(self, offers: Sequence[ProcessorOffer], kept_seconds: float) -> None:
        upserts = [
            UpdateOne(
                {"_id": f"{offer.name}@{offer.version}"},
                [{"$set": {"lastSeenAt": NOW, "descriptor": literal(offer.to_wire().decode())}}],
                upsert=True,
            )
            for offer in offers
        ]
        too_old = {"$expr": {"$lt": ["$lastSeenAt", ago(kept_seconds)]}}
        await self._offers.bulk_write([*upserts, DeleteMany(too_old)], ordered=False)

    async def offered(self, live_seconds: float, kept_seconds: float) -> list[OfferedProcessor]:
        kept = {"$expr": {"$gte": ["$lastSeenAt", ago(kept_seconds)]}}
        fields = {"descriptor": 1, "lastSeenAt": 1, "live": {"$gte": ["$lastSeenAt", ago(live_seconds)]}}
        versions: dict[str, dict[str, OfferedVersion]] = defaultdict(dict)
        # Those seen last come last, and stand for their version.
        async for found in self._offers.find(kept, fields).sort("lastSeenAt"):
            offer = ProcessorOffer.model_validate_json(found["descriptor"])
            versions[offer.name][offer.version] = _version(offer, found["live"], found["lastSeenAt"])
        return [_processor(name, list(versions[name].values())) for name in sorted(versions)]


def _version(offer: ProcessorOffer, live: bool, last_seen_at: datetime) -> OfferedVersion:
    described = {name: getattr(offer, name) for name in ProcessorOffer.model_fields if name != "name"}
    return OfferedVersion(**described, live=live, last_seen_at=last_seen_at)


def _processor(name: str, versions: Sequence[OfferedVersion]) -> OfferedProcessor:
    highest_first = sorted(versions, key=_rank, reverse=True)
    describes = next((version for version in highest_first if version.live), highest_first[0])
    return OfferedProcessor(
        name=name,
        **{field: getattr(describes, field) for field in ProcessorOffer.model_fields if field != "name"},
        live=describes.live,
        last_seen_at=max(version.last_seen_at for version in versions),
        versions=highest_first,
    )


def _rank(version: OfferedVersion) -> list[int]:
    return [int(part) for part in version.version.split(".")]
