"""job's API: front submits and asks, processors claim and report."""

from typing import Any

from fastapi import APIRouter, Depends, Response

from common.contracts.job import (
    ClaimAnswer,
    ClaimRequest,
    Complete,
    Fail,
    Heartbeat,
    OfferList,
    Offers,
    Release,
    RunSubmit,
    StatusAnswer,
    StatusQuery,
)
from common.web.access import callers
from common.web.calls import Call, Heard
from gristmill.wire.base import Wire
from services.job.api.presence import while_present
from services.job.use_cases.offers import Offering
from services.job.use_cases.queue import Queue

FRONT = callers("front")
PROCESSOR = callers("processor")
# Claims wait for runs.
HELD = ("/claim",)
Answer = tuple[int, Any]
NOTHING: Answer = (204, None)


def calls(queue: Queue, offering: Offering) -> list[Call[Any]]:
    """Everything that is asked for all the time."""

    async def submit(heard: Heard[RunSubmit]) -> Answer:
        accepted, created = await queue.submit(heard.body)
        return (201 if created else 200), accepted

    async def statuses(heard: Heard[StatusQuery]) -> Answer:
        return 200, StatusAnswer(items=await queue.statuses(heard.body.ids, await offering.live()))

    async def claim(heard: Heard[ClaimRequest]) -> Answer:
        runs = await while_present(heard.request, queue.claim(heard.body))
        return 200, ClaimAnswer(runs=runs or [])

    async def heartbeat(heard: Heard[Heartbeat]) -> Answer:
        await queue.heartbeat(heard.id, heard.body)
        return NOTHING

    async def complete(heard: Heard[Complete]) -> Answer:
        return 200, ClaimAnswer(runs=await queue.complete(heard.id, heard.body))

    async def fail(heard: Heard[Fail]) -> Answer:
        await queue.fail(heard.id, heard.body)
        return NOTHING

    async def release(heard: Heard[Release]) -> Answer:
        await queue.release(heard.id, heard.body.fence)
        return NOTHING

    async def offer(heard: Heard[Offers]) -> Answer:
        await offering.offer(heard.body.offers)
        return NOTHING

    return [
        Call("/api/v1/job", FRONT, RunSubmit, submit),
        Call("/api/v1/job/status", FRONT, StatusQuery, statuses),
        Call("/api/v1/claim", PROCESSOR, ClaimRequest, claim),
        Call("/api/v1/run/{id}/heartbeat", PROCESSOR, Heartbeat, heartbeat),
        Call("/api/v1/run/{id}/complete", PROCESSOR, Complete, complete),
        Call("/api/v1/run/{id}/fail", PROCESSOR, Fail, fail),
        Call("/api/v1/run/{id}/release", PROCESSOR, Release, release),
        Call("/api/v1/processor", PROCESSOR, Offers, offer),
    ]


def router(queue: Queue, offering: Offering) -> APIRouter:
    """What is asked for now and then."""
    routes = APIRouter(prefix="/api/v1", tags=["job"], dependencies=[Depends(FRONT)])

    @routes.get("/job/{run_id}/status", summary="How a run stands")
    async def status(run_id: str) -> Response:
        return _answer(await queue.status(run_id, await offering.live()))

    @routes.post("/job/{run_id}/cancel", summary="End a run, known or not, as cancelled")
    async def cancel(run_id: str) -> Response:
        return _answer(await queue.cancel(run_id))

    @routes.delete("/job/{run_id}", summary="Forget a run that has ended")
    async def delete(run_id: str) -> Response:
        await queue.delete(run_id)
        return Response(status_code=204)

    @routes.get("/processor", summary="What processors run")
    async def offered() -> Response:
        return _answer(OfferList(items=await offering.offered()))

    return routes


def _answer(body: Wire) -> Response:
    return Response(body.to_wire(), media_type="application/json")
