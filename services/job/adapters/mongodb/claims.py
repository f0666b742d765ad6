"""Claims on the queue in MongoDB, coalesced: those that arrive while some are under way share one look, one write
and one read.

Claims of one run each would otherwise all look at the same first run, and all but one would come back empty. Here
the runs that are due are dealt out among the claims of a batch; only other processes still contend for them.

A look has two steps: the flows of least tag, whose runs are dealt by start-time fair queuing, and then the oldest
runs of those flows. Both read what is newest rather than what a majority has, because the write that takes a run is
what decides. The write done, the flows are told what was taken and what is left.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter
from pydantic_core import from_json
from pymongo import UpdateMany
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from common.coalescer import Coalescer
from common.contracts.job import InputRef, RunState, RunSubmit
from common.mongo.client import Document
from services.job.adapters.mongodb import pipelines
from services.job.adapters.mongodb.flows import Left, MongoFlows, Seen, Write, leaving, serving
from services.job.domain.fairness import Flow, charges, deal, flow_key
from services.job.domain.tenants import Tenants
from services.job.ports import Claimed

# Others may win all the runs that a claim looked at; those behind them are still there.
CLAIM_TRIES = 4
MOST_DEALT = 1_000
MOST_FLOWS = 64
CLAIMED = {
    **dict.fromkeys(("fence", "inputs", "processor", "params", "tenant", "claimId", "alone", "traceparent"), 1),
    "deadlineMs": {"$subtract": ["$deadlineAt", pipelines.NOW]},
}

inputs_json = TypeAdapter(list[InputRef])


@dataclass(frozen=True, slots=True)
class _Claim:
    claim_id: str
    processors: frozenset[str]
    limit: int
    start_seconds: float


@dataclass(frozen=True, slots=True)
class _Row:
    """A queued run; `due` says whether it may be taken."""

    id: str
    available_at: datetime
    due: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What claims that want the same have found: the eligible flows, and the runs dealt to each claim."""

    processors: frozenset[str]
    seen: Sequence[Seen]
    clock: float
    hands: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Looks:
    """All of a batch, and of each flow that was dealt from, one run more than was dealt, if there is one."""

    alike: Sequence[_Look]
    rows: Mapping[str, Sequence[_Row]]


class MongoClaims:
    """Takes runs for claims, each run for one."""

    def __init__(self, runs: AsyncCollection[Document], flows: MongoFlows, tenants: Tenants) -> None:
        self._runs = runs
        self._newest = runs.with_options(read_concern=ReadConcern("local"))
        self._flows = flows
        self._tenants = tenants
        self._claims: Coalescer[_Claim, Sequence[Claimed]] = Coalescer(self._claim_all)

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float
    ) -> Sequence[Claimed]:
        return await self._claims(_Claim(claim_id, frozenset(processors), limit, start_seconds))

    async def _claim_all(self, claims: Sequence[_Claim]) -> Sequence[Sequence[Claimed]]:
        asking = {claim.claim_id: claim for claim in claims}  # a claim that is repeated at once is still one
        held, looks = await asyncio.gather(self._held(list(asking)), self._look(list(asking.values())))
        for _ in range(CLAIM_TRIES):
            if not any(look.seen for look in looks.alike):
                break
            hands = {claim_id: ids for look in looks.alike for claim_id, ids in look.hands.items()}
            held.update(
                await self._take([(asking[each], ids) for each, ids in hands.items() if each not in held], looks)
            )
            empty_handed = [claim for claim_id, claim in asking.items() if claim_id not in held]
            if not empty_handed:
                break
            looks = await self._look(empty_handed)
        return [held.get(claim.claim_id, [])[: claim.limit] for claim in claims]

    async def _look(self, claims: Sequence[_Claim]) -> _Looks:
        """Deals the runs that are due to the claims in turn."""
        alike: dict[frozenset[str], list[_Claim]] = defaultdict(list)
        for claim in claims:
            alike[claim.processors].append(claim)
        await self._flows.all_told()
        running = await self._running() if self._tenants.limit_running else {}
        full = [tenant for tenant, count in running.items() if self._tenants.room(tenant, count) == 0]
        found = await asyncio.gather(*(self._eligible(wanted, full) for wanted in alike))
        seen_tenants = {seen.flow.tenant for eligible, _ in found for seen in eligible}
        room = {tenant: self._tenants.room(tenant, running.get(tenant, 0)) for tenant in seen_tenants}
        dealt = [
            deal([seen.flow for seen in eligible], clock, _slots(group), self._tenants, room)
            for group, (eligible, clock) in zip(alike.values(), found, strict=True)
        ]
        rows = await self._first_of(Counter(flow.key for flows in dealt for flow in flows))
        due = {key: (row.id for row in of_flow if row.due) for key, of_flow in rows.items()}
        return _Looks(
            [
                _Look(wanted, eligible, clock, _hands(group, flows, due))
                for (wanted, group), (eligible, clock), flows in zip(alike.items(), found, dealt, strict=True)
            ],
            rows,
        )

    async def _eligible(self, processors: frozenset[str], full: Sequence[str]) -> tuple[list[Seen], float]:
        names = sorted(processors)
        return await asyncio.gather(self._flows.eligible(names, full, MOST_FLOWS), self._flows.clock(names))

    async def _running(self) -> dict[str, int]:
        """How many runs of each tenant run, what was just taken included."""
        counted: list[Document] = [
            {"$match": pipelines.RUNNING},
            {"$group": {"_id": "$tenant", "runs": {"$sum": 1}}},
        ]
        found = await self._newest.aggregate(counted)
        return {group["_id"]: group["runs"] async for group in found}

    async def _first_of(self, wanted: Mapping[str, int]) -> dict[str, list[_Row]]:
        """The oldest runs of each flow, one more than wanted, so that it is known what stays behind."""
        rows: dict[str, list[_Row]] = {key: [] for key in wanted}
        branches = [_first(key, count + 1) for key, count in wanted.items()]
        for start in range(0, len(branches), MOST_FLOWS):
            first, *others = branches[start : start + MOST_FLOWS]
            unions: list[Document] = [{"$unionWith": {"coll": self._runs.name, "pipeline": other}} for other in others]
            async for found in await self._newest.aggregate([*first, *unions]):
                rows[found["flow"]].append(_Row(found["_id"], found["availableAt"], found["due"]))
        return rows

    async def _take(self, takes: Sequence[tuple[_Claim, Sequence[str]]], looks: _Looks) -> dict[str, list[Claimed]]:
        """Takes the runs that were dealt to claims; returns what each has won."""
        if not takes:
            await self._settle(looks, frozenset(), {})
            return {}
        flow_of = {row.id: key for key, rows in looks.rows.items() for row in rows}
        tried = frozenset(run_id for _, ids in takes for run_id in ids)
        written = await self._runs.bulk_write([_take(claim, ids) for claim, ids in takes])
        holds = self._held([claim.claim_id for claim, _ in takes])
        if written.modified_count == len(tried):
            held, _ = await asyncio.gather(holds, self._settle(looks, tried, Counter(flow_of[each] for each in tried)))
        else:
            held = await holds
            won = [flow_key(taken.run.processor, taken.run.tenant) for mine in held.values() for taken in mine]
            await self._settle(looks, tried, Counter(won))
        return held

    async def _settle(self, looks: _Looks, tried: frozenset[str], served: Mapping[str, int]) -> None:
        """Tells the flows what was taken, and what is left in them once the runs that were tried have gone."""
        left: dict[str, Left] = {}
        writes: list[Write] = []
        owed = dict(served)
        for look in looks.alike:
            flows = [seen.flow for seen in look.seen]
            mine = {flow.key: owed.pop(flow.key) for flow in flows if flow.key in owed}
            writes += serving(sorted(look.processors), charges(flows, look.clock, mine, self._tenants), mine)
            for seen in look.seen:
                rows = [row for row in looks.rows.get(seen.flow.key, ()) if row.id not in tried]
                if seen.flow.key in looks.rows and not any(row.due for row in rows):
                    left[seen.flow.key] = Left(seen.version, rows[0].available_at if rows else None)
        await self._flows.write([*writes, *leaving(left)])

    async def _held(self, claim_ids: Sequence[str]) -> dict[str, list[Claimed]]:
        """The runs that claims hold now, each claim's by how long they were due; claims without any are left out."""
        held: dict[str, list[Claimed]] = {}
        query = {"claimId": {"$in": list(claim_ids)}, "state": RunState.RUNNING}
        async for found in self._runs.find(query, CLAIMED).sort([("availableAt", 1), ("_id", 1)]):
            held.setdefault(found["claimId"], []).append(_claimed(found))
        return held


def _slots(group: Sequence[_Claim]) -> int:
    return min(MOST_DEALT, sum(claim.limit for claim in group))


def _hands(group: Sequence[_Claim], flows: Sequence[Flow], due: Mapping[str, Iterator[str]]) -> dict[str, list[str]]:
    """Each claim's runs; claims without any are left out."""
    ids = (run_id for flow in flows if (run_id := next(due[flow.key], None)) is not None)
    hands: dict[str, list[str]] = defaultdict(list)
    for turn in range(max(claim.limit for claim in group)):
        for claim in group:
            if turn < claim.limit and (run_id := next(ids, None)) is not None:
                hands[claim.claim_id].append(run_id)
    return hands


def _first(key: str, limit: int) -> list[Document]:
    # The sweep ends those that are past their deadline. Until it does, their flow lets others go first.
    looked_at = {"$cond": [pipelines.IN_TIME, "$availableAt", pipelines.after(1)]}
    return [
        {"$match": {"state": RunState.QUEUED, "flow": key}},
        {"$sort": {"availableAt": 1, "_id": 1}},
        {"$limit": limit},
        {"$project": {"flow": 1, "availableAt": looked_at, "due": pipelines.TAKEABLE}},
    ]


def _take(claim: _Claim, ids: Sequence[str]) -> UpdateMany:
    queued = {"_id": {"$in": list(ids)}, "state": RunState.QUEUED, "$expr": pipelines.TAKEABLE}
    return UpdateMany(queued, pipelines.claim(claim.claim_id, claim.start_seconds))


def _claimed(found: Document) -> Claimed:
    run = RunSubmit(
        id=found["_id"],
        inputs=inputs_json.validate_json(found["inputs"]),
        processor=found["processor"],
        params=from_json(found["params"]),
        tenant=found["tenant"],
        traceparent=found.get("traceparent"),
    )
    left_ms = found["deadlineMs"]
    deadline_seconds = None if left_ms is None else left_ms / 1000
    return Claimed(run, found["fence"], deadline_seconds, alone=found.get("alone", False))
