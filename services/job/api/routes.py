"""job's API: front submits and asks, processors claim and report."""

from typing import Any

from fastapi import APIRouter, Depends, Response

from common.contracts.job import (
    ClaimRequest,
    ClaimResponse,
    Complete,
    Fail,
    Heartbeat,
    OfferList,
    Offers,
    Release,
    RunSubmit,
    StatusQuery,
)
from common.web.access import callers
from common.web.fast import CallContext, FastRoute, call
from gristmill.wire.base import Wire
from services.job.api.presence import while_present
from services.job.use_cases.offers import Offering
from services.job.use_cases.queue import Queue

FRONT = callers("front")
PROCESSOR = callers("processor")
Reply = tuple[int, Any]
NOTHING: Reply = (204, None)


def calls(queue: Queue, offering: Offering) -> list[FastRoute]:
    """What front and processors request all the time."""

    async def submit(context: CallContext[RunSubmit]) -> Reply:
        accepted, created = await queue.submit(context.body)
        return (201 if created else 200), accepted

    async def statuses(context: CallContext[StatusQuery]) -> Reply:
        return 200, await queue.statuses(context.body.ids, await offering.live())

    async def claim(context: CallContext[ClaimRequest]) -> Reply:
        runs = await while_present(context.request, queue.claim(context.body))
        return 200, ClaimResponse(runs=runs or [])

    async def heartbeat(context: CallContext[Heartbeat]) -> Reply:
        await queue.heartbeat(context.id, context.body)
        return NOTHING

    async def complete(context: CallContext[Complete]) -> Reply:
        return 200, ClaimResponse(runs=await queue.complete(context.id, context.body))

    async def fail(context: CallContext[Fail]) -> Reply:
        await queue.fail(context.id, context.body)
        return NOTHING

    async def release(context: CallContext[Release]) -> Reply:
        await queue.release(context.id, context.body.fence)
        return NOTHING

    async def offer(context: CallContext[Offers]) -> Reply:
        await offering.offer(context.body.offers)
        return NOTHING

    return [
        call("/api/v1/job", FRONT, RunSubmit, submit),
        call("/api/v1/job/status", FRONT, StatusQuery, statuses),
        call("/api/v1/claim", PROCESSOR, ClaimRequest, claim),
        call("/api/v1/run/{id}/heartbeat", PROCESSOR, Heartbeat, heartbeat),
        call("/api/v1/run/{id}/complete", PROCESSOR, Complete, complete),
        call("/api/v1/run/{id}/fail", PROCESSOR, Fail, fail),
        call("/api/v1/run/{id}/release", PROCESSOR, Release, release),
        call("/api/v1/processor", PROCESSOR, Offers, offer),
    ]


def router(queue: Queue, offering: Offering) -> APIRouter:
    """What front requests now and then."""
    routes = APIRouter(prefix="/api/v1", tags=["job"], dependencies=[Depends(FRONT)])

    @routes.get("/job/{run_id}/status", summary="How a run stands")
    async def status(run_id: str) -> Response:
        return _response(await queue.status(run_id, await offering.live()))

    @routes.post("/job/{run_id}/cancel", summary="End a run, known or not, as cancelled")
    async def cancel(run_id: str) -> Response:
        return _response(await queue.cancel(run_id))

    @routes.delete("/job/{run_id}", summary="Forget a run that has ended")
    async def delete(run_id: str) -> Response:
        await queue.delete(run_id)
        return Response(status_code=204)

    @routes.get("/processor", summary="What processors run")
    async def offered() -> Response:
        return _response(OfferList(items=await offering.offered()))

    return routes


def _response(body: Wire) -> Response:
    return Response(body.to_wire(), media_type="application/json")
