"""The queue in MongoDB: one document a run, one conditional write a transition.

Writes that arrive together go out together: submits as pipeline upserts, and whatever a fence guards as
conditional updates, each in one `bulk_write` under majority. A bulk write returns totals, not winners. When
every update matched, all of them won. Else one majority read shows which did: the writes that end a lease leave
a token of their own, of which one alone can match for any fence; a heartbeat won if its fence still holds. That read
also has what became of a run, for those who need it; a write that goes out alone returns it by itself.

The inputs and parameters are kept as the JSON text they came as: the queue never looks into them, and no key,
depth or number of theirs can spoil a bulk write for others.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticSerializationError, to_json
from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.write_concern import WriteConcern

from common.coalescer import Coalescer
from common.contracts.job import OutputInfo, RunError, RunState, RunStatus, RunSubmit
from common.errors import Conflict, Invalid, StaleFence, Unavailable
from common.ids import new_id
from common.mongo.client import Document, is_away
from common.mongo.clock import is_due
from common.mongo.due import claim_due
from services.job.adapters.mongodb import pipelines
from services.job.adapters.mongodb.claims import MongoClaims, inputs_json
from services.job.adapters.mongodb.flows import MongoFlows, Queued
from services.job.adapters.mongodb.positions import MongoPositions
from services.job.domain.fairness import flow_key
from services.job.domain.rules import FINAL, OPEN, RetryPolicy, phase_of
from services.job.domain.tenants import Tenants
from services.job.ports import Claimed, Handover, Submitted

DUPLICATE_KEY = 11000
# A run that is submitted while it is cancelled is cancelled with the second try.
CANCEL_TRIES = 4
SWEPT_AT_ONCE = 1_000
REPAIRED_AT_ONCE = 5_000
RECOUNTED_AT_ONCE = 100
STATUS = ["flow", "state", "fence", "attempt", "processor", "started", "phase", "progress", "outputs", "error"]
STATUS += ["queuedAt", "startedAt", "endedAt"]
WENT_BACK = ["state", "processor", "tenant", "availableAt"]
CHANGED = [*STATUS, "token", "tenant", "availableAt"]


@dataclass(frozen=True, slots=True)
class _Change:
    """A write that a fence guards, and whether its caller needs the document as it is afterwards."""

    filter: Mapping[str, Any]
    pipeline: pipelines.Pipeline
    reads: bool = False


class MongoRunStore:
    """A `RunStore` and its `QueueHints` over a collection of runs, and one of flows, which are hints where to look."""

    def __init__(self, runs: AsyncCollection[Document], flows: AsyncCollection[Document], tenants: Tenants) -> None:
        self._runs = runs
        # A mark that gets lost means a second report, so nothing waits for the journal.
        self._marks = runs.with_options(write_concern=WriteConcern(w=1))
        self._flows = MongoFlows(flows, runs)
        self._claims = MongoClaims(runs, self._flows, tenants)
        self._positions = MongoPositions(self._flows, runs, tenants)
        self._submits: Coalescer[UpdateOne, bool] = Coalescer(self._submit_all, is_away=is_away)
        self._changes: Coalescer[_Change, Document | None] = Coalescer(self._change_all, is_away=is_away)
        self._cancels: Coalescer[str, RunStatus] = Coalescer(self._cancel_all, is_away=is_away)
        self._deletes: Coalescer[str, None] = Coalescer(self._delete_all, is_away=is_away)

    async def submit(self, run: RunSubmit, handover: Handover | None = None) -> Submitted:
        pipeline = pipelines.submit(_document(run), handover, run.deadline_seconds)
        # The state keeps the upsert from touching a run that is there; it then stumbles over the id.
        if await self._submits(UpdateOne({"_id": run.id, "state": {"$exists": False}}, pipeline, upsert=True)):
            if handover is not None:
                return Submitted(RunState.RUNNING, created=True)
            self._flows.put(Queued(run.processor, run.tenant))
            return Submitted(RunState.QUEUED, created=True)
        found = await self._runs.find_one({"_id": run.id}, {"state": 1})
        if found is None:
            raise Unavailable
        return Submitted(RunState(found["state"]), created=False)

    async def queued_estimate(self, tenant: str) -> int:
        await self._flows.all_written()
        return await self._flows.estimate(tenant)

    async def queued_count(self, tenant: str) -> int:
        await self._flows.all_written()
        return await self._flows.count(tenant)

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float, *, first: bool = False
    ) -> Sequence[Claimed]:
        return await self._claims.claim(claim_id, processors, limit, start_seconds, first=first)

    async def heartbeat(
        self,
        run_id: str,
        fence: int,
        lease_seconds: float,
        *,
        started: bool,
        phase: str | None = None,
        progress: float | None = None,
    ) -> None:
        beat = pipelines.heartbeat(lease_seconds, started=started, phase=phase, progress=progress)
        found = await self._change(run_id, fence, beat)
        # With this fence the run has been RUNNING without a break, or has ended well just now.
        if found and not (found["fence"] == fence and found["state"] in (RunState.RUNNING, RunState.SUCCESS)):
            raise StaleFence

    async def complete(self, run_id: str, fence: int, outputs: Sequence[OutputInfo]) -> RunStatus | None:
        token = new_id()
        pipeline = pipelines.complete([o.model_dump() for o in outputs], token)
        found = await self._change(run_id, fence, pipeline, reads=True)
        if found is not None and found.get("token") == token:
            return _status(found)
        if found is not None and found["state"] == RunState.SUCCESS and found["fence"] == fence:
            return None
        raise StaleFence

    async def fail(self, run_id: str, fence: int, error: RunError, retry: RetryPolicy | None) -> RunStatus:
        token = new_id()
        found = await self._change(run_id, fence, pipelines.fail(error.model_dump(), retry, token), reads=True)
        if found is None or found.get("token") != token:
            raise StaleFence
        self._went_back([found])
        return _status(found)

    async def release(self, run_id: str, fence: int) -> None:
        token = new_id()
        found = await self._change(run_id, fence, pipelines.release(token), reads=True)
        if found is None or found.get("token") != token:
            raise StaleFence
        self._went_back([found])

    async def sweep(self, retry: RetryPolicy) -> int:
        late = {"state": {"$in": list(OPEN)}, **is_due("deadlineAt")}
        ended = await self._runs.update_many(late, pipelines.pass_deadline())
        swept = ended.modified_count
        running, take_back = {"state": RunState.RUNNING}, pipelines.take_back(retry)
        while lapsed := await claim_due(
            self._runs, "leaseUntil", take_back, SWEPT_AT_ONCE, where=running, fields=WENT_BACK
        ):
            swept += len(lapsed)
            self._went_back(lapsed)
        await self._flows.all_written()
        await self._flows.repair(REPAIRED_AT_ONCE)
        await self._flows.recount(RECOUNTED_AT_ONCE)
        return swept

    async def cancel(self, run_id: str) -> RunStatus:
        return await self._cancels(run_id)

    async def delete(self, run_id: str) -> None:
        await self._deletes(run_id)

    async def statuses(self, ids: Sequence[str], live: Collection[str] | None = None) -> list[RunStatus]:
        known = {"_id": {"$in": list(ids)}, "deleted": {"$exists": False}}
        found = await self._runs.find(known, STATUS).to_list()
        queued = {run["_id"]: run["flow"] for run in found if run["state"] == RunState.QUEUED}
        positions = await self._positions.of(queued)
        return [_status(run, live, positions.get(run["_id"])) for run in found]

    async def claim_reports(self, limit: int) -> list[RunStatus]:
        due = await claim_due(self._runs, "reportDueAt", pipelines.claim_report(), limit, fields=STATUS)
        return [_status(found) for found in due]

    async def settle(self, ids: Sequence[str]) -> None:
        fields = {"reportDueAt": "", "reports": "", "reportDueAtToken": ""}
        await self._marks.update_many({"_id": {"$in": list(ids)}}, {"$unset": fields})

    async def queued(self) -> AsyncIterator[str | None]:
        """Whatever is put into a flow changes its version."""
        async for processor in self._flows.changed():
            yield processor

    def _went_back(self, runs: Sequence[Document]) -> None:
        """Updates the flows of those that are queued again; some may have ended instead."""
        for run in runs:
            if run["state"] == RunState.QUEUED:
                self._flows.put(Queued(run["processor"], run["tenant"], due=run["availableAt"]))

    async def _change(
        self, run_id: str, fence: int, pipeline: pipelines.Pipeline, *, reads: bool = False
    ) -> Document | None:
        """The run after the write; None when the write is known to have won and `reads` is false."""
        guard = pipelines.encoded({"_id": run_id, "fence": fence, "state": RunState.RUNNING})
        return await self._changes(_Change(guard, pipeline, reads))

    async def _submit_all(self, upserts: Sequence[UpdateOne]) -> Sequence[bool | Exception]:
        result, errors = await self._bulk_write(upserts)
        created = {upserted["index"] for upserted in result["upserted"]}
        return [
            PyMongoError(errors[n]["errmsg"]) if n in errors and errors[n]["code"] != DUPLICATE_KEY else n in created
            for n in range(len(upserts))
        ]

    async def _change_all(self, batch: Sequence[_Change]) -> Sequence[Document | Exception | None]:
        if len(batch) == 1 and batch[0].reads:
            return [await self._change_alone(batch[0])]
        updates = [UpdateOne(change.filter, change.pipeline) for change in batch]
        result, errors = await self._bulk_write(updates)
        all_won = result["nMatched"] == len(batch)
        unsure = {change.filter["_id"] for change in batch if change.reads or not all_won}
        found: dict[str, Document] = {}
        if unsure:
            query = self._runs.find({"_id": {"$in": list(unsure)}}, CHANGED)
            found = {document["_id"]: document async for document in query}
        answers: list[Document | Exception | None] = []
        for n, change in enumerate(batch):
            if n in errors:
                answers.append(PyMongoError(errors[n]["errmsg"]))
            elif change.reads or not all_won:
                answers.append(found.get(change.filter["_id"], StaleFence()))
            else:
                answers.append(None)
        return answers

    async def _change_alone(self, change: _Change) -> Document | Exception:
        changed = await self._runs.find_one_and_update(
            change.filter, change.pipeline, CHANGED, return_document=ReturnDocument.AFTER
        )
        return changed or await self._runs.find_one({"_id": change.filter["_id"]}, CHANGED) or StaleFence()

    async def _cancel_all(self, ids: Sequence[str]) -> Sequence[RunStatus | Exception]:
        ended: dict[str, RunStatus] = {}
        for _ in range(CANCEL_TRIES):
            open_ids = list(set(ids) - ended.keys())
            if not open_ids:
                break
            # One that has ended already isn't matched, and the upsert stumbles over its id.
            await self._bulk_write(
                [
                    UpdateOne({"_id": run_id, "state": {"$in": list(OPEN)}}, pipelines.cancel(), upsert=True)
                    for run_id in open_ids
                ]
            )
            query = {"_id": {"$in": open_ids}, "state": {"$in": list(FINAL)}}
            ended.update({found["_id"]: _status(found) async for found in self._runs.find(query, STATUS)})
        return [ended.get(run_id, Unavailable()) for run_id in ids]

    async def _delete_all(self, ids: Sequence[str]) -> Sequence[Exception | None]:
        named = {"_id": {"$in": list(ids)}}
        await self._runs.update_many({**named, "state": {"$in": list(FINAL)}}, pipelines.delete())
        query = {**named, "state": {"$in": list(OPEN)}}
        still_open = {found["_id"] async for found in self._runs.find(query, {"_id": 1})}
        return [Conflict("The run has not ended.") if run_id in still_open else None for run_id in ids]

    async def _bulk_write(self, updates: Sequence[UpdateOne]) -> tuple[Document, dict[int, Document]]:
        """The totals, and the errors of single updates by their index."""
        try:
            result = await self._runs.bulk_write(list(updates), ordered=False)
        except BulkWriteError as error:
            details: Document = dict(error.details or {})
            if error.timeout or details.get("writeConcernErrors"):
                raise Unavailable from error
            return details, {fault["index"]: fault for fault in details["writeErrors"]}
        return result.bulk_api_result, {}


def _document(run: RunSubmit) -> Document:
    try:
        params = to_json(run.params).decode()
        inputs = inputs_json.dump_json(run.inputs).decode()
    except PydanticSerializationError as error:
        raise Invalid("The parameters hold a text that isn't Unicode.") from error
    return {
        "_id": run.id,
        "flow": flow_key(run.processor, run.tenant),
        "inputs": inputs,
        "processor": run.processor,
        "params": params,
        "tenant": run.tenant,
        **({} if run.traceparent is None else {"traceparent": run.traceparent}),
    }


def _status(found: Document, live: Collection[str] | None = None, queue_position: int | None = None) -> RunStatus:
    can_be_taken = live is None or found.get("processor") in live
    return RunStatus(
        id=found["_id"],
        status=found["state"],
        fence=found["fence"],
        attempt=found["attempt"],
        phase=phase_of(RunState(found["state"]), found.get("started", False), found.get("phase"), can_be_taken),
        progress=found.get("progress"),
        queued_at=found.get("queuedAt"),
        started_at=found.get("startedAt"),
        ended_at=found.get("endedAt"),
        queue_position=queue_position,
        outputs=found.get("outputs", []),
        error=found.get("error"),
        processor=found.get("processor"),
    )
