"""job's API as front and processors see it, over ASGI with a real MongoDB."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clients.http import ServiceHttp, open_http
from common.clients.job import JobClient
from common.contracts.job import (
    Complete,
    Fail,
    Heartbeat,
    Release,
    RunError,
    RunState,
)
from common.errors import Forbidden, Invalid, NotFound, StaleFence, Unauthorized, Unavailable
from common.ids import new_id
from common.mongo.client import Client, opened
from deploy.local import mongod
from tests.fakes.keys import signer
from tests.support.job_service import DEADLINE_SECONDS, OUTPUT, Job, a_claim, a_job, a_run
from tests.support.serving import serving


@pytest.fixture
async def job(mongodb: Client, database_name: str) -> AsyncIterator[Job]:
    async with a_job(mongodb, database_name, backoff_seconds=0, sweep_seconds=0.1, start_seconds=0.5) as job:
        await job.becomes_ready()
        yield job


async def test_typical_journey(job: Job) -> None:
    run = await job.submit()
    (claimed,) = await job.claim()
    assert (claimed.id, claimed.fence, claimed.lease_seconds) == (run.id, 1, 30)
    assert (claimed.inputs, claimed.params) == (run.inputs, run.params)
    await job.processor.heartbeat(run.id, Heartbeat(fence=1, phase="decode"))
    assert (await job.status(run.id)).phase == "decode"
    await job.processor.complete(run.id, Complete(fence=1, outputs=[OUTPUT]))
    status = await job.status(run.id)
    assert (status.status, status.attempt, status.outputs) == (RunState.SUCCESS, 1, [OUTPUT])
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await job.front_ear.heard.get() == status


async def test_a_run_submitted_again_is_answered_200_and_runs_once(job: Job) -> None:
    run = a_run()
    headers = {"Authorization": f"Bearer {signer('front').token('job')}", "Content-Type": "application/json"}
    answers = [await job.http.post("/api/v1/job", content=run.to_wire(), headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[1].json() == {"id": run.id, "status": "QUEUED"}
    assert len(await job.claim(limit=5)) == 1


async def test_a_single_status_or_404(job: Job) -> None:
    run = await job.submit()
    headers = {"Authorization": f"Bearer {signer('front').token('job')}"}
    answer = await job.http.get(f"/api/v1/job/{run.id}/status", headers=headers)
    found = answer.json()
    assert found.pop("queuedAt").endswith("Z")
    waits = {"phase": "waiting-for-processor", "queuePosition": 0}
    assert found == {"id": run.id, "status": "QUEUED", "fence": 0, "attempt": 0, "outputs": [], **waits}
    assert (await job.http.get(f"/api/v1/job/{new_id()}/status", headers=headers)).status_code == NotFound.status
    assert await job.front.statuses([new_id()]) == {}


async def test_a_waiting_claim_is_handed_the_next_run(job: Job) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        claiming = asyncio.create_task(job.claim(wait=30))
        run = await job.submit()
        (claimed,) = await claiming
    assert claimed.id == run.id


async def test_completing_may_carry_the_next_claim(job: Job) -> None:
    first, second = await job.submit(), await job.submit()
    (claimed,) = await job.claim()
    completion = Complete(fence=claimed.fence, outputs=[], claim=a_claim(wait=30))
    (following,) = await job.processor.complete(first.id, completion)
    assert following.id == second.id
    # The same call again, its response having been lost, says the same.
    assert await job.processor.complete(first.id, completion) == [following]
    last = Complete(fence=following.fence, outputs=[], claim=a_claim(wait=30))
    assert await job.processor.complete(second.id, last) == []


async def test_a_stale_fence_is_a_conflict(job: Job) -> None:
    run = await job.submit()
    (claimed,) = await job.claim()
    await job.processor.release(run.id, Release(fence=claimed.fence))
    for late in (
        job.processor.heartbeat(run.id, Heartbeat(fence=1)),
        job.processor.complete(run.id, Complete(fence=1, outputs=[OUTPUT])),
        job.processor.fail(run.id, Fail(fence=1, error=RunError(type="internal", detail="x"))),
        job.processor.release(run.id, Release(fence=1)),
    ):
        with pytest.raises(StaleFence):
            await late
    assert (await job.status(run.id)).status == RunState.QUEUED


async def test_a_users_failure_ends_the_run_and_ours_is_tried_again(job: Job) -> None:
    users, ours = await job.submit("users"), await job.submit("ours")
    (claimed,) = await job.claim("users")
    await job.processor.fail(users.id, Fail(fence=claimed.fence, error=RunError(type="invalid-input", detail="x")))
    assert (await job.status(users.id)).status == RunState.FAILED
    for _ in range(3):
        (claimed,) = await job.claim("ours")
        await job.processor.fail(ours.id, Fail(fence=claimed.fence, error=RunError(type="internal", detail="x")))
    status = await job.status(ours.id)
    assert (status.status, status.attempt) == (RunState.FAILED, 3)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert {(await job.front_ear.heard.get()).id for _ in range(2)} == {users.id, ours.id}


async def test_a_run_whose_processor_never_starts_it_goes_to_another(job: Job) -> None:
    run = await job.submit()
    (lost,) = await job.claim()
    (claimed,) = await job.claim(wait=15)
    assert (claimed.id, claimed.fence) == (run.id, lost.fence + 2)
    assert (await job.status(run.id)).attempt == 0


async def test_a_claimer_that_hangs_up_is_handed_nothing(job: Job) -> None:
    app = job.http._transport.app  # type: ignore[attr-defined]  # the very application, on a real port
    async with serving(app) as url, open_http(url) as http:
        claiming = asyncio.create_task(JobClient(ServiceHttp(http, signer("processor"), "job")).claim(a_claim(wait=30)))
        (first,) = [await job.submit()]
        assert [run.id for run in await claiming] == [first.id]
        leaves = asyncio.create_task(JobClient(ServiceHttp(http, signer("processor"), "job")).claim(a_claim(wait=30)))
        await asyncio.sleep(0.2)
        leaves.cancel()
        await asyncio.wait([leaves])
    run = await job.submit()
    assert (await job.status(run.id)).status == RunState.QUEUED


async def test_a_drain_answers_waiting_claims(job: Job) -> None:
    claiming = asyncio.create_task(job.claim(wait=60))
    job.readiness.draining = True
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await claiming == []


async def test_two_processes_share_one_queue(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name) as one, a_job(mongodb, database_name) as other:
        await one.becomes_ready()
        await other.becomes_ready()
        claiming = asyncio.create_task(other.claim(wait=30))
        run = await one.submit()
        async with asyncio.timeout(DEADLINE_SECONDS):
            (claimed,) = await claiming
        assert claimed.id == run.id
        await one.processor.complete(run.id, Complete(fence=claimed.fence, outputs=[]))
        assert (await other.status(run.id)).status == RunState.SUCCESS


async def test_front_away_loses_no_report(job: Job) -> None:
    job.front_ear.away = True
    run = await job.submit()
    (claimed,) = await job.claim()
    await job.processor.complete(run.id, Complete(fence=claimed.fence, outputs=[]))
    job.front_ear.away = False
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await job.front_ear.heard.get()).id == run.id


async def test_each_route_has_its_callers(job: Job) -> None:
    with pytest.raises(Forbidden):
        await JobClient(ServiceHttp(job.http, signer("processor"), "job")).submit(a_run())
    with pytest.raises(Forbidden):
        await JobClient(ServiceHttp(job.http, signer("front"), "job")).claim(a_claim())
    with pytest.raises(Unauthorized):
        await JobClient(ServiceHttp(job.http, signer("stranger"), "job")).claim(a_claim())


async def test_bad_bodies_are_refused_and_harm_nobody_beside_them(job: Job) -> None:
    bad = a_run().model_copy(update={"id": "../../etc"})
    answers = await asyncio.gather(*(job.front.submit(run) for run in (bad, a_run(), a_run())), return_exceptions=True)
    assert isinstance(answers[0], Invalid)
    assert answers[1:] == [None, None]
    (claimed,) = await job.claim()
    late = Complete(fence=2**80, outputs=[])
    fine = Complete(fence=claimed.fence, outputs=[OUTPUT])
    completions = await asyncio.gather(
        job.processor.complete(claimed.id, late), job.processor.complete(claimed.id, fine), return_exceptions=True
    )
    assert isinstance(completions[0], Invalid)
    assert completions[1] == []


async def test_mongodb_away_at_start_is_not_ready_and_recovers_without_a_restart(
    tmp_path: Path, database_name: str
) -> None:
    port = mongod.free_port()
    async with opened(mongod.uri(port)) as mongodb, a_job(mongodb, database_name) as job:
        assert (await job.http.get("/livez")).status_code == 200
        assert (await job.http.get("/readyz")).status_code == 503
        process = await mongod.start(tmp_path, port)
        try:
            await job.becomes_ready()
            await job.submit()
        finally:
            process.kill()
            await process.wait()
        with pytest.raises(Unavailable):
            await JobClient(ServiceHttp(job.http, signer("front"), "job")).submit(a_run())
