"""What front's stores promise: the MongoDB ones and the fakes pass the same suite."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from common.ids import new_id
from common.mongo.client import Client
from gristmill.wire.processors import OfferedProcessor
from services.front.adapters.mongodb.inline import MongoInlineStore
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.adapters.mongodb.offers import MongoOfferStore
from services.front.domain.job import (
    FINAL,
    TRANSITIONS,
    UNFINISHED,
    JobError,
    NewJob,
    Output,
    Owner,
    Status,
    Transition,
)
from services.front.ports import InlineStore, JobStore, OfferStore
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore, MemoryOfferStore

LEASE = 0.5
LONG = 600.0
TRICKY = {"$gt": "", "a.b": "$tenant", "deep": [[[{"n": 10**30}]]], "text": "$$NOW"}


@dataclass
class Stores:
    jobs: JobStore
    inline: InlineStore
    offers: OfferStore
    lapse: Callable[[], Awaitable[None]]
    """Lets a lease of `LEASE` seconds lapse."""


@pytest.fixture(params=["mongodb", "memory"])
async def stores(request: pytest.FixtureRequest, mongodb: Client, database_name: str) -> Stores:
    if request.param == "memory":
        clock = Clock()

        async def forward() -> None:
            clock.forward(LEASE)

        return Stores(MemoryJobStore(clock), MemoryInlineStore(clock), MemoryOfferStore(), forward)
    jobs, inline = MongoJobStore(mongodb, database_name), MongoInlineStore(mongodb, database_name)
    await jobs.create_indexes()
    await inline.create_indexes()

    async def wait() -> None:
        await asyncio.sleep(LEASE)  # the server's clock can't be moved

    return Stores(jobs, inline, MongoOfferStore(mongodb, database_name), wait)


def new_job(**changes: object) -> NewJob:
    fields = {
        "id": new_id(),
        "owner": Owner("acme", "alice"),
        "name": "$name.txt",
        "mimetype": "text/plain",
        "size": 3,
        "processor": "checksum",
        "params": TRICKY,
        **changes,
    }
    return NewJob(**fields)  # type: ignore[arg-type]  # a mapping of mixed types


def transition_to(target: Status) -> Transition:
    error = JobError("internal", "$x")
    return {
        Status.STORED: Transition.stored(3, "ab" * 32),
        Status.STORED_ERROR: Transition.not_stored(error),
        Status.SUBMITTED: Transition.submitted(),
        Status.SUBMITTED_ERROR: Transition.not_submitted(error),
        Status.EXECUTION_COMPLETED: Transition.completed(2, 1, (Output("$o", "text/plain", 3, "cd" * 32),)),
        Status.EXECUTION_ERROR: Transition.failed(3, error),
        Status.CANCELLED: Transition.cancelled(),
    }[target]


PATHS = {
    Status.CREATED: [],
    Status.STORED: [Status.STORED],
    Status.SUBMITTED: [Status.STORED, Status.SUBMITTED],
    Status.STORED_ERROR: [Status.STORED_ERROR],
    Status.SUBMITTED_ERROR: [Status.STORED, Status.SUBMITTED_ERROR],
    Status.EXECUTION_COMPLETED: [Status.STORED, Status.SUBMITTED, Status.EXECUTION_COMPLETED],
    Status.EXECUTION_ERROR: [Status.STORED, Status.SUBMITTED, Status.EXECUTION_ERROR],
    Status.CANCELLED: [Status.STORED, Status.SUBMITTED, Status.CANCELLED],
}


async def job_in(stores: Stores, status: Status, lease: float = LONG) -> str:
    job = await stores.jobs.insert_created(new_job(), lease)
    for target in PATHS[status]:
        assert await stores.jobs.apply(job.id, transition_to(target), lease)
    return job.id


async def test_a_job_comes_back_as_it_was_written(stores: Stores) -> None:
    new = new_job()
    written = await stores.jobs.insert_created(new, LONG)
    job = await stores.jobs.find(new.id)
    assert job is not None
    assert (job.id, job.owner, job.name, job.params) == (new.id, new.owner, "$name.txt", TRICKY)
    assert [status for status, _ in job.history] == [Status.CREATED]
    assert job.created_at == job.updated_at
    assert job == replace(
        written,
        created_at=job.created_at,
        updated_at=job.updated_at,
        expires_at=job.expires_at,
        history=job.history,
    )


@pytest.mark.parametrize("encoding", ["gzip", None])
async def test_a_job_knows_how_its_file_came_compressed(stores: Stores, encoding: str | None) -> None:
    job = await stores.jobs.insert_stored(new_job(sha256="ab" * 32, encoding=encoding), LONG)
    assert job.encoding == encoding


async def test_a_job_that_is_written_again_stays_as_it_is(stores: Stores) -> None:
    new = new_job(sha256="ab" * 32)
    await stores.jobs.insert_stored(new, LONG)
    first = await stores.jobs.find(new.id)
    assert first is not None
    assert await stores.jobs.apply(new.id, Transition.submitted(), LONG)
    again = await stores.jobs.insert_stored(new, LONG)
    assert (again.status, again.created_at) == (Status.SUBMITTED, first.created_at)
    assert again.history[:2] == first.history


async def test_a_stored_job_has_created_in_its_history(stores: Stores) -> None:
    job = await stores.jobs.insert_stored(new_job(sha256="ab" * 32), LONG)
    assert job.status is Status.STORED
    assert [status for status, _ in job.history] == [Status.CREATED, Status.STORED]


async def test_an_unknown_job_is_not_found(stores: Stores) -> None:
    assert await stores.jobs.find(new_id()) is None
    assert await stores.jobs.find_many([new_id()]) == {}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("target", [status for status in Status if status is not Status.CREATED])
async def test_only_the_transitions_of_the_table_take_hold(stores: Stores, status: Status, target: Status) -> None:
    job_id = await job_in(stores, status)
    won = await stores.jobs.apply(job_id, transition_to(target), LONG)
    job = await stores.jobs.find(job_id)
    assert job is not None
    # That a run has ended proves that job had it.
    proves = status is Status.STORED and target in (Status.EXECUTION_COMPLETED, Status.EXECUTION_ERROR)
    assert won == (proves or target in TRANSITIONS[status])
    assert job.status is (target if won else status)
    steps = [*([Status.SUBMITTED] if proves else []), target]
    assert [entry for entry, _ in job.history] == [Status.CREATED, *PATHS[status], *(steps if won else [])]


@pytest.mark.parametrize("late", [-LONG, 0, LONG])
async def test_an_end_says_when_job_took_the_run_and_history_stays_in_order(stores: Stores, late: float) -> None:
    job_id = await job_in(stores, Status.STORED)
    at = await stores.jobs.now() + timedelta(seconds=late)
    assert await stores.jobs.apply(job_id, Transition.cancelled(submitted_at=at))
    job = await stores.jobs.find(job_id)
    assert job is not None
    (_, created), (_, stored), (submitted, submitted_at), (ended, ended_at) = job.history
    assert (submitted, ended) == (Status.SUBMITTED, Status.CANCELLED)
    assert submitted_at == min(ended_at, max(at, stored))
    assert created <= stored <= submitted_at <= ended_at


async def test_a_job_that_is_submitted_keeps_the_time_that_it_has(stores: Stores) -> None:
    job_id = await job_in(stores, Status.SUBMITTED)
    before = await stores.jobs.find(job_id)
    assert before is not None
    await stores.jobs.apply(job_id, Transition.cancelled(submitted_at=before.created_at - timedelta(seconds=1)))
    after = await stores.jobs.find(job_id)
    assert after is not None
    assert after.history[:-1] == before.history


async def test_the_fields_of_a_transition_are_kept(stores: Stores) -> None:
    completed = await stores.jobs.find(await job_in(stores, Status.EXECUTION_COMPLETED))
    assert completed is not None
    assert (completed.size, completed.sha256, completed.fence, completed.attempt) == (3, "ab" * 32, 2, 1)
    assert completed.outputs == (Output("$o", "text/plain", 3, "cd" * 32),)
    failed = await stores.jobs.find(await job_in(stores, Status.EXECUTION_ERROR))
    assert failed is not None
    assert failed.error == JobError("internal", "$x")


async def test_of_many_writers_at_once_exactly_one_wins_each_job(stores: Stores) -> None:
    ids = [await job_in(stores, Status.SUBMITTED) for _ in range(10)]
    ends = [Status.EXECUTION_COMPLETED, Status.EXECUTION_ERROR] * 5
    won = await asyncio.gather(*(stores.jobs.apply(job_id, transition_to(end)) for job_id in ids for end in ends))
    assert [sum(won[n : n + 10]) for n in range(0, 100, 10)] == [1] * 10


async def test_a_lapsed_lease_is_taken_once(stores: Stores) -> None:
    # At once, or the first lease lapses before the last one begins.
    ids = await asyncio.gather(*(job_in(stores, Status.STORED, LEASE) for _ in range(5)))
    assert await stores.jobs.claim_lapsed(UNFINISHED, LONG, 10) == []
    await stores.lapse()
    taken = await asyncio.gather(*(stores.jobs.claim_lapsed(UNFINISHED, LONG, 10) for _ in range(4)))
    assert sorted(job.id for jobs in taken for job in jobs) == sorted(ids)


async def test_a_renewed_lease_does_not_lapse(stores: Stores) -> None:
    job_id = await job_in(stores, Status.CREATED, LEASE)
    assert await stores.jobs.renew(job_id, Status.CREATED, LONG)
    await stores.lapse()
    assert await stores.jobs.claim_lapsed(UNFINISHED, LONG, 10) == []
    assert not await stores.jobs.renew(job_id, Status.STORED, LONG)


async def test_leases_are_taken_by_state_and_never_of_final_jobs(stores: Stores) -> None:
    submitted = await job_in(stores, Status.SUBMITTED, LEASE)
    for status in FINAL:
        await job_in(stores, status, LEASE)
    await stores.lapse()
    assert await stores.jobs.claim_lapsed({Status.CREATED, Status.STORED}, LONG, 10) == []
    assert [job.id for job in await stores.jobs.claim_lapsed({Status.SUBMITTED}, LONG, 10)] == [submitted]


async def test_a_job_that_is_gone_is_not_remembered(mongodb: Client, database_name: str) -> None:
    store = MongoJobStore(mongodb, database_name)
    job_id = (await store.insert_created(new_job(), LONG)).id
    for target in PATHS[Status.EXECUTION_COMPLETED]:
        await store.apply(job_id, transition_to(target), LONG)
    first = await store.find(job_id)
    assert await store.find(job_id) is first, "nothing of it has changed"
    await store.jobs.update_one({"_id": job_id}, {"$set": {"bytesDeleted": True}})
    changed = await store.find(job_id)
    assert changed is not None
    assert changed.bytes_deleted
    await store.jobs.delete_one({"_id": job_id})
    assert await store.find(job_id) is None


@pytest.mark.parametrize("status", Status)
async def test_what_may_have_gone_to_job_is_not_withdrawn(stores: Stores, status: Status) -> None:
    job_id = await job_in(stores, status)
    assert await stores.jobs.apply(job_id, Transition.withdrawn()) == (status is Status.CREATED)
    job = await stores.jobs.find(job_id)
    assert job is not None
    assert job.status is (Status.CANCELLED if status is Status.CREATED else status)


@pytest.mark.parametrize("status", Status)
async def test_a_cancel_is_remembered_until_the_end(stores: Stores, status: Status) -> None:
    job_id = await job_in(stores, status)
    asked = await stores.jobs.request_cancel(job_id, LONG)
    assert await stores.jobs.find(job_id) == (asked or await stores.jobs.find(job_id))
    assert (asked is None) == status.is_final
    if asked is not None:
        assert asked.cancel_requested
        await stores.jobs.apply(job_id, Transition.stored(3, "ab" * 32), LONG)
        await stores.jobs.apply(job_id, Transition.submitted(), LONG)
        before = await stores.jobs.find(job_id)
        assert before is not None
        assert before.cancel_requested
        await stores.jobs.apply(job_id, Transition.cancelled())
        ended = await stores.jobs.find(job_id)
        assert ended is not None
        assert (ended.status, ended.cancel_requested) == (Status.CANCELLED, False)
    assert await stores.jobs.request_cancel(new_id(), LONG) is None


async def test_a_cancel_that_is_not_answered_is_taken_once_and_again_later(stores: Stores) -> None:
    ids = {await job_in(stores, status) for status in (Status.STORED, Status.SUBMITTED)}
    for job_id in ids:
        await stores.jobs.request_cancel(job_id, LEASE)
        await stores.jobs.request_cancel(job_id, LONG)  # asked again, it isn't put off
    assert await stores.jobs.claim_cancels(LEASE, 10) == []
    await stores.lapse()
    taken = await asyncio.gather(*(stores.jobs.claim_cancels(LEASE, 10) for _ in range(4)))
    assert sorted(job.id for jobs in taken for job in jobs) == sorted(ids)
    await stores.lapse()
    for job_id in ids:
        await stores.jobs.apply(job_id, Transition.cancelled())
    assert await stores.jobs.claim_cancels(LEASE, 10) == []


async def test_the_clock_knows_its_time_zone(stores: Stores) -> None:
    job = await stores.jobs.find(await job_in(stores, Status.CREATED))
    assert job is not None
    assert await stores.jobs.now() >= job.created_at


async def test_a_task_is_done_by_one_and_again_when_it_is_due(stores: Stores) -> None:
    assert sum(await asyncio.gather(*(stores.jobs.claim_task("sweep", LEASE) for _ in range(5)))) == 1
    assert not await stores.jobs.claim_task("sweep", LEASE)
    await stores.lapse()
    assert await stores.jobs.claim_task("sweep", LEASE)


async def test_inline_bytes_wait_until_they_are_deleted(stores: Stores) -> None:
    first, second = new_id(), new_id()
    await stores.inline.put(first, b"$abc")
    await stores.inline.put(second, b"de")
    assert await stores.inline.get(first) == b"$abc"
    assert await stores.inline.waiting_bytes() == 6
    assert await stores.inline.older_than(LONG, 10) == []
    await stores.lapse()
    assert set(await stores.inline.older_than(LEASE / 2, 10)) == {first, second}
    await stores.inline.delete([first])
    assert await stores.inline.get(first) is None
    assert await stores.inline.get(second) == b"de"


async def test_offers_are_kept(stores: Stores) -> None:
    assert await stores.offers.load_offers() is None
    offer = OfferedProcessor.model_validate(
        {
            "name": "checksum",
            "version": "1.0.0",
            "summary": "",
            "mediaTypes": ["*/*"],
            "params": {"$defs": {"a.b": {}}},
            "live": True,
            "lastSeenAt": "2026-01-01T00:00:00Z",
        }
    )
    await stores.offers.save_offers([offer])
    assert await stores.offers.load_offers() == [offer]
