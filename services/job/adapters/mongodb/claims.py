"""Claims on the queue in MongoDB, coalesced: those that arrive while some are under way share one round.

Claims of one run each would otherwise all look at the same first run, and all but one would come back empty. A round:

1. Read the runs that these claims have already, if any may be repeated: it gets the same runs again.
2. Read the flows of least tag that may have a run to take, leaving out tenants that run as many as they may.
3. Deal the slots of the claims to these flows by start-time fair queuing (`services.job.domain.fairness`).
4. Read the oldest runs of those flows, one more than was dealt, and assign them to the claims in turn.
5. Take them as they were read, by one conditional write. Other processes may have taken some: the write decides, so
   steps 2 to 4 read what is newest rather than what a majority has. What was won is read back only if not all was.
   Claims that got nothing go back to 2, up to `CLAIM_TRIES` times.
6. Update the flows: what was taken, and when the next run of each is due.
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
from common.mongo.client import Document, is_away
from common.mongo.clock import NOW, from_now
from services.job.adapters.mongodb import pipelines
from services.job.adapters.mongodb.flows import FlowSnapshot, MongoFlows, Remainder, Write, looking_later, serving
from services.job.domain.fairness import Flow, charges, deal, flow_key
from services.job.domain.tenants import Tenants
from services.job.ports import Claimed

# Others may win all the runs that a claim looked at; those behind them are still there.
CLAIM_TRIES = 4
MOST_DEALT = 1_000
MOST_FLOWS = 64
CLAIMED = {
    **dict.fromkeys(("fence", "inputs", "processor", "params", "tenant", "claimId", "alone", "traceparent"), 1),
    "deadlineMs": {"$subtract": ["$deadlineAt", NOW]},
}

inputs_json = TypeAdapter(list[InputRef])


@dataclass(slots=True)
class _Claim:
    claim_id: str
    processors: frozenset[str]
    limit: int
    start_seconds: float
    first: bool
    """Whether it can't have runs yet. Not so once a write was tried for it, whatever became of that."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A queued run, whether it may be taken now, and what was `found` of it."""

    id: str
    available_at: datetime
    due: bool
    found: Document


@dataclass(frozen=True, slots=True)
class _Group:
    """Claims that want the same processors: the flows they may take from, the clock, and the runs assigned to each."""

    processors: frozenset[str]
    flows: Sequence[FlowSnapshot]
    clock: float
    assigned: Mapping[str, Sequence[_Row]]


@dataclass(frozen=True, slots=True)
class _Allocation:
    """What a round assigns. Of each flow that was dealt from, `rows` has one run more, if there is one."""

    groups: Sequence[_Group]
    rows: Mapping[str, Sequence[_Row]]


class MongoClaims:
    """Assigns queued runs to claims; each run goes to exactly one."""

    def __init__(self, runs: AsyncCollection[Document], flows: MongoFlows, tenants: Tenants) -> None:
        self._runs = runs
        self._newest = runs.with_options(read_concern=ReadConcern("local"))
        self._flows = flows
        self._tenants = tenants
        self._claims: Coalescer[_Claim, Sequence[Claimed]] = Coalescer(self._claim_all, is_away=is_away)

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float, *, first: bool
    ) -> Sequence[Claimed]:
        return await self._claims(_Claim(claim_id, frozenset(processors), limit, start_seconds, first))

    async def _claim_all(self, claims: Sequence[_Claim]) -> Sequence[Sequence[Claimed]]:
        # A claim that is repeated at once is still one.
        by_id = {claim.claim_id: claim for claim in sorted(claims, key=lambda claim: not claim.first)}
        repeated = [claim.claim_id for claim in by_id.values() if not claim.first]
        claimed, allocation = await asyncio.gather(self._claimed_by(repeated), self._allocate(list(by_id.values())))
        for _ in range(CLAIM_TRIES):
            if not any(group.flows for group in allocation.groups):
                break
            assigned = {claim_id: rows for group in allocation.groups for claim_id, rows in group.assigned.items()}
            takes = [(by_id[claim_id], rows) for claim_id, rows in assigned.items() if claim_id not in claimed]
            claimed.update(await self._take(takes, allocation))
            empty_handed = [claim for claim_id, claim in by_id.items() if claim_id not in claimed]
            if not empty_handed:
                break
            allocation = await self._allocate(empty_handed)
        return [claimed.get(claim.claim_id, [])[: claim.limit] for claim in claims]

    async def _allocate(self, claims: Sequence[_Claim]) -> _Allocation:
        """Steps 2 to 4."""
        alike: dict[frozenset[str], list[_Claim]] = defaultdict(list)
        for claim in claims:
            alike[claim.processors].append(claim)
        await self._flows.all_written()
        running = await self._running() if self._tenants.limit_running else {}
        full = [tenant for tenant, count in running.items() if self._tenants.room(tenant, count) == 0]
        found = await asyncio.gather(*(self._flows.look(sorted(wanted), full, MOST_FLOWS) for wanted in alike))
        tenants = {snapshot.flow.tenant for eligible, _ in found for snapshot in eligible}
        room = {tenant: self._tenants.room(tenant, running.get(tenant, 0)) for tenant in tenants}
        dealt = [
            deal([snapshot.flow for snapshot in eligible], clock, _slots(group), self._tenants, room)
            for group, (eligible, clock) in zip(alike.values(), found, strict=True)
        ]
        rows = await self._first_of(Counter(flow.key for flows in dealt for flow in flows))
        due = {key: (row for row in of_flow if row.due) for key, of_flow in rows.items()}
        return _Allocation(
            [
                _Group(processors, eligible, clock, _assign(group, flows, due))
                for (processors, group), (eligible, clock), flows in zip(alike.items(), found, dealt, strict=True)
            ],
            rows,
        )

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
                rows[found["flow"]].append(_Row(found["_id"], found["availableAt"], found["due"], found))
        return rows

    async def _take(
        self, takes: Sequence[tuple[_Claim, Sequence[_Row]]], allocation: _Allocation
    ) -> dict[str, list[Claimed]]:
        """Steps 5 and 6: takes the runs that were assigned to claims; returns what each has won."""
        if not takes:
            await self._update_flows(allocation, frozenset(), {})
            return {}
        tried = frozenset(row.id for _, rows in takes for row in rows)
        for claim, _ in takes:
            claim.first = False
        written = await self._runs.bulk_write([take for claim, rows in takes for take in _takes(claim, rows)])
        if written.modified_count == len(tried):
            claimed = {claim.claim_id: _won(rows) for claim, rows in takes}
        else:
            claimed = await self._claimed_by([claim.claim_id for claim, _ in takes])
        won = [flow_key(each.run.processor, each.run.tenant) for runs in claimed.values() for each in runs]
        await self._update_flows(allocation, tried, Counter(won))
        return claimed

    async def _update_flows(self, allocation: _Allocation, tried: frozenset[str], served: Mapping[str, int]) -> None:
        """Writes down what was taken of each flow, and what remains of it without the runs that were tried."""
        remaining: dict[str, Remainder] = {}
        writes: list[Write] = []
        uncharged = dict(served)
        for group in allocation.groups:
            flows = [snapshot.flow for snapshot in group.flows]
            mine = {flow.key: uncharged.pop(flow.key) for flow in flows if flow.key in uncharged}
            writes += serving(sorted(group.processors), charges(flows, group.clock, mine, self._tenants), mine)
            for snapshot in group.flows:
                key = snapshot.flow.key
                rows = [row for row in allocation.rows.get(key, ()) if row.id not in tried]
                if key in allocation.rows and not any(row.due for row in rows):
                    remaining[key] = Remainder(snapshot.version, rows[0].available_at if rows else None)
        await self._flows.write([*writes, *looking_later(remaining)])

    async def _claimed_by(self, claim_ids: Sequence[str]) -> dict[str, list[Claimed]]:
        """The runs of each claim now, those first that were due first; claims without any are left out."""
        claimed: dict[str, list[Claimed]] = {}
        if not claim_ids:
            return claimed
        query = {"claimId": {"$in": list(claim_ids)}, "state": RunState.RUNNING}
        async for found in self._runs.find(query, CLAIMED).sort([("availableAt", 1), ("_id", 1)]):
            claimed.setdefault(found["claimId"], []).append(_claimed(found, found["fence"]))
        return claimed


def _slots(group: Sequence[_Claim]) -> int:
    return min(MOST_DEALT, sum(claim.limit for claim in group))


def _assign(group: Sequence[_Claim], flows: Sequence[Flow], due: Mapping[str, Iterator[_Row]]) -> dict[str, list[_Row]]:
    """The runs for each claim, one after the other; claims without any are left out."""
    rows = (row for flow in flows if (row := next(due[flow.key], None)) is not None)
    assigned: dict[str, list[_Row]] = defaultdict(list)
    for n in range(max(claim.limit for claim in group)):
        for claim in group:
            if n < claim.limit and (row := next(rows, None)) is not None:
                assigned[claim.claim_id].append(row)
    return assigned


def _won(rows: Sequence[_Row]) -> list[Claimed]:
    """What a claim has now that all of these are its own, as `MongoClaims._claimed_by` would say it."""
    in_order = sorted(rows, key=lambda row: (row.available_at, row.id))
    return [_claimed(row.found, row.found["fence"] + 1) for row in in_order]


def _first(key: str, limit: int) -> list[Document]:
    # The sweep ends those that are past their deadline. Until it does, their flow lets others go first.
    looked_at = {"$cond": [pipelines.IN_TIME, "$availableAt", from_now(1)]}
    return [
        {"$match": {"state": RunState.QUEUED, "flow": key}},
        {"$sort": {"availableAt": 1, "_id": 1}},
        {"$limit": limit},
        {"$project": {**CLAIMED, "flow": 1, "availableAt": looked_at, "due": pipelines.TAKEABLE}},
    ]


def _takes(claim: _Claim, rows: Sequence[_Row]) -> Iterator[UpdateMany]:
    """Its runs as they were read: one that was taken and given back since has another fence. Most have none yet, so
    there is one write for those of a fence.
    """
    by_fence: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        by_fence[row.found["fence"]].append(row.id)
    for fence, ids in by_fence.items():
        queued = {"_id": {"$in": ids}, "state": RunState.QUEUED, "fence": fence, "$expr": pipelines.TAKEABLE}
        yield UpdateMany(queued, pipelines.claim(claim.claim_id, claim.start_seconds))


def _claimed(found: Document, fence: int) -> Claimed:
    run = RunSubmit(
        id=found["_id"],
        inputs=inputs_json.validate_json(found["inputs"]),
        processor=found["processor"],
        params=from_json(found["params"]),
        tenant=found["tenant"],
        traceparent=found.get("traceparent"),
    )
    deadline_ms = found["deadlineMs"]
    deadline_seconds = None if deadline_ms is None else deadline_ms / 1000
    return Claimed(run, fence, deadline_seconds, alone=found.get("alone", False))
