"""job's API: front submits and asks, processors claim and report."""

from fastapi import APIRouter, Depends, Request, Response

from common.contracts import Wire
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
from services.job.api.presence import while_present
from services.job.use_cases.offers import Offering
from services.job.use_cases.queue import Queue

FRONT = Depends(callers("front"))
PROCESSOR = Depends(callers("processor"))
NO_CONTENT = 204


def router(queue: Queue, offering: Offering) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["job"])

    @routes.post("/job", dependencies=[FRONT], summary="Queue a run")
    async def submit(run: RunSubmit) -> Response:
        accepted, created = await queue.submit(run)
        return _answer(accepted, 201 if created else 200)

    @routes.post("/job/status", dependencies=[FRONT], summary="How many runs stand")
    async def statuses(query: StatusQuery) -> Response:
        return _answer(StatusAnswer(items=await queue.statuses(query.ids)))

    @routes.get("/job/{run_id}/status", dependencies=[FRONT], summary="How a run stands")
    async def status(run_id: str) -> Response:
        return _answer(await queue.status(run_id))

    @routes.post("/claim", dependencies=[PROCESSOR], summary="Take runs under a lease")
    async def claim(wanted: ClaimRequest, request: Request) -> Response:
        runs = await while_present(request, queue.claim(wanted))
        return _answer(ClaimAnswer(runs=runs or []))

    @routes.post("/run/{run_id}/heartbeat", dependencies=[PROCESSOR], summary="Renew a run's lease")
    async def heartbeat(run_id: str, beat: Heartbeat) -> Response:
        await queue.heartbeat(run_id, beat)
        return Response(status_code=NO_CONTENT)

    @routes.post("/run/{run_id}/complete", dependencies=[PROCESSOR], summary="End a run as done")
    async def complete(run_id: str, completion: Complete) -> Response:
        return _answer(ClaimAnswer(runs=await queue.complete(run_id, completion)))

    @routes.post("/run/{run_id}/fail", dependencies=[PROCESSOR], summary="End a run's attempt as failed")
    async def fail(run_id: str, failure: Fail) -> Response:
        await queue.fail(run_id, failure)
        return Response(status_code=NO_CONTENT)

    @routes.post("/run/{run_id}/release", dependencies=[PROCESSOR], summary="Give a run back")
    async def release(run_id: str, given_back: Release) -> Response:
        await queue.release(run_id, given_back.fence)
        return Response(status_code=NO_CONTENT)

    @routes.post("/processor", dependencies=[PROCESSOR], summary="Say what a processor runs")
    async def offer(said: Offers) -> Response:
        await offering.offer(said.offers)
        return Response(status_code=NO_CONTENT)

    @routes.get("/processor", dependencies=[FRONT], summary="What processors run")
    async def offered() -> Response:
        return _answer(OfferList(items=await offering.offered()))

    return routes


def _answer(body: Wire, status: int = 200) -> Response:
    return Response(body.to_wire(), status, media_type="application/json")
