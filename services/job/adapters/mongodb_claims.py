"""Claims on the queue in MongoDB, coalesced: those that arrive while some are under way share one look, one write
and one read.

Claims of one run each would otherwise all look at the same first run, and all but one would come back empty. Here
the runs that are due are dealt out among the claims of a batch; only other processes still contend for them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter
from pydantic_core import from_json
from pymongo import UpdateMany
from pymongo.asynchronous.collection import AsyncCollection

from common.coalescer import Coalescer
from common.contracts.job import InputRef, RunState, RunSubmit
from common.mongo import Document
from services.job.adapters import pipelines
from services.job.ports import Claimed

# Others may win all the runs that a claim looked at; those behind them are still there.
CLAIM_TRIES = 4
CLAIMED = {"fence": 1, "inputs": 1, "processor": 1, "params": 1, "tenant": 1, "claimId": 1}

inputs_json = TypeAdapter(list[InputRef])


@dataclass(frozen=True, slots=True)
class _Claim:
    claim_id: str
    processors: frozenset[str]
    limit: int
    start_seconds: float


class MongoClaims:
    """Takes runs for claims, each run for one."""

    def __init__(self, runs: AsyncCollection[Document]) -> None:
        self._runs = runs
        self._claims: Coalescer[_Claim, Sequence[Claimed]] = Coalescer(self._claim_all)

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float
    ) -> Sequence[Claimed]:
        return await self._claims(_Claim(claim_id, frozenset(processors), limit, start_seconds))

    async def _claim_all(self, claims: Sequence[_Claim]) -> Sequence[Sequence[Claimed]]:
        asking = {claim.claim_id: claim for claim in claims}  # a claim that is repeated at once is still one
        held, dealt = await asyncio.gather(self._held(list(asking)), self._deal(list(asking.values())))
        for _ in range(CLAIM_TRIES):
            taking = {claim_id: ids for claim_id, ids in dealt.items() if claim_id not in held}
            if not taking:
                break
            await self._runs.bulk_write([self._take(asking[claim_id], ids) for claim_id, ids in taking.items()])
            held.update(await self._held(list(taking)))
            dealt = await self._deal([asking[claim_id] for claim_id in taking if claim_id not in held])
        return [held.get(claim.claim_id, [])[: claim.limit] for claim in claims]

    async def _deal(self, claims: Sequence[_Claim]) -> dict[str, list[str]]:
        """The ids of the runs that are due longest, dealt to the claims in turn; claims without any are left out."""
        alike: dict[frozenset[str], list[_Claim]] = defaultdict(list)
        for claim in claims:
            alike[claim.processors].append(claim)
        looks = [self._first_due(wanted, sum(claim.limit for claim in group)) for wanted, group in alike.items()]
        hands: dict[str, list[str]] = defaultdict(list)
        for group, ids in zip(alike.values(), await asyncio.gather(*looks), strict=True):
            due = iter(ids)
            for turn in range(max(claim.limit for claim in group)):
                for claim in group:
                    if turn < claim.limit and (run_id := next(due, None)) is not None:
                        hands[claim.claim_id].append(run_id)
        return hands

    @staticmethod
    def _take(claim: _Claim, ids: Sequence[str]) -> UpdateMany:
        queued = {"_id": {"$in": list(ids)}, "state": RunState.QUEUED, **pipelines.due("availableAt")}
        return UpdateMany(queued, pipelines.claim(claim.claim_id, claim.start_seconds))

    async def _first_due(self, processors: frozenset[str], limit: int) -> list[str]:
        queued = {"state": RunState.QUEUED, "processor": {"$in": sorted(processors)}, **pipelines.due("availableAt")}
        first = self._runs.find(queued, {"_id": 1}).sort([("availableAt", 1), ("_id", 1)]).limit(limit)
        return [found["_id"] async for found in first]

    async def _held(self, claim_ids: Sequence[str]) -> dict[str, list[Claimed]]:
        """The runs that claims hold now, each claim's by how long they were due; claims without any are left out."""
        held: dict[str, list[Claimed]] = {}
        query = {"claimId": {"$in": list(claim_ids)}, "state": RunState.RUNNING}
        async for found in self._runs.find(query, CLAIMED).sort([("availableAt", 1), ("_id", 1)]):
            held.setdefault(found["claimId"], []).append(_claimed(found))
        return held


def _claimed(found: Document) -> Claimed:
    run = RunSubmit(
        id=found["_id"],
        inputs=inputs_json.validate_json(found["inputs"]),
        processor=found["processor"],
        params=from_json(found["params"]),
        tenant=found["tenant"],
    )
    return Claimed(run, found["fence"])
