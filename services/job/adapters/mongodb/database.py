"""job's database: its indexes, and whether it can be used."""

import pymongo
from pymongo import IndexModel
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from common.contracts.job import RunState
from common.errors import Unavailable
from common.mongo.client import Client
from services.job.adapters.mongodb.depths import MongoDepths
from services.job.adapters.mongodb.offers import MongoOfferStore
from services.job.adapters.mongodb.runs import MongoRunStore
from services.job.domain.tenants import Tenants

# Partial, so that each holds the runs it is for and not the many that have ended.
RUN_INDEXES = [
    IndexModel(
        [("state", 1), ("flow", 1), ("availableAt", 1), ("_id", 1), ("deadlineAt", 1)],
        name="queued",
        partialFilterExpression={"state": RunState.QUEUED},
    ),
    IndexModel([("leaseUntil", 1)], name="leases", partialFilterExpression={"state": RunState.RUNNING}),
    IndexModel([("deadlineAt", 1)], name="deadlines", partialFilterExpression={"deadlineAt": {"$exists": True}}),
    # Tombstones own no bytes, so MongoDB itself may remove them.
    IndexModel(
        [("forgetAt", 1)],
        name="tombstones",
        expireAfterSeconds=0,
        partialFilterExpression={"forgetAt": {"$exists": True}},
    ),
    # What comes after `claimId` lets what runs be counted from the index alone.
    IndexModel(
        [("claimId", 1), ("state", 1), ("tenant", 1), ("processor", 1)],
        name="running",
        partialFilterExpression={"state": RunState.RUNNING},
    ),
    IndexModel([("reportDueAt", 1)], name="reports", partialFilterExpression={"reportDueAt": {"$exists": True}}),
]
FLOW_INDEXES = [
    # Those with runs to take, in the order that claims want them.
    IndexModel(
        [("processor", 1), ("tag", 1), ("lookAt", 1), ("tenant", 1)],
        name="eligible",
        partialFilterExpression={"lookAt": {"$exists": True}},
    ),
    IndexModel([("tenant", 1), ("processor", 1)], name="tenants"),
    # The clock has passed their tag by then, so that they mean nothing any more.
    IndexModel([("idleSince", 1)], name="idle", expireAfterSeconds=86_400),
]
CHECK_SECONDS = 1.5
OFFER_INDEXES = [IndexModel([("lastSeenAt", 1)], name="seen")]


class JobDatabase:
    """The stores, over one client. Usable once `create_indexes` has come through, which needs MongoDB to be there.

    `tenants` has the share of each in the queue.
    """

    def __init__(self, client: Client, name: str, tenants: Tenants | None = None) -> None:
        self._client = client
        self._database = client[name]
        self._indexed = False
        # Flows are hints: a crash may lose some, and a look at them wants the newest.
        self._flows = self._database.get_collection(
            "flows", read_concern=ReadConcern("local"), write_concern=WriteConcern(w=1)
        )
        self.runs = MongoRunStore(self._database["runs"], self._flows, tenants or Tenants())
        self.depths = MongoDepths(self._flows, self._database["runs"])
        self.offers = MongoOfferStore(self._database["offers"])

    async def create_indexes(self) -> None:
        """Idempotent, and safe in many processes at once."""
        await self._database["runs"].create_indexes(RUN_INDEXES)
        await self._flows.create_indexes(FLOW_INDEXES)
        await self._database["offers"].create_indexes(OFFER_INDEXES)
        self._indexed = True

    async def check(self) -> None:
        """Raises when the database can't be used now."""
        # PyMongo's own deadline, so that nobody has to cancel it: that can spoil the client for all.
        with pymongo.timeout(CHECK_SECONDS):
            await self._client.admin.command("ping")
        if not self._indexed:
            raise Unavailable("The indexes aren't there yet.")
