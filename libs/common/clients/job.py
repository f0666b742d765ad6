"""Calls to job: front submits and asks; processors claim and report."""

from collections.abc import Sequence

from common.clients.http import ServiceHttp
from common.contracts.job import (
    MAX_IDS,
    ClaimedRun,
    ClaimRequest,
    ClaimResponse,
    Complete,
    Fail,
    Heartbeat,
    OfferList,
    Offers,
    Release,
    RunAccepted,
    RunStatus,
    RunSubmit,
    StatusQuery,
    StatusResponse,
)
from gristmill.wire.processors import OfferedProcessor, ProcessorOffer

CLAIM_MARGIN_SECONDS = 10


class JobClient:
    """job's API. Raises `common.errors`: `Unavailable` when job can't be reached, `StaleFence` for a lost run."""

    def __init__(self, http: ServiceHttp) -> None:
        self._http = http

    async def submit(self, run: RunSubmit) -> None:
        await self._http.post("/api/v1/job", run, RunAccepted)

    async def statuses(self, ids: Sequence[str]) -> dict[str, RunStatus]:
        """The runs that job knows, by id."""
        found: dict[str, RunStatus] = {}
        left = list(ids)
        while left:
            query, left = StatusQuery(ids=left[:MAX_IDS]), left[MAX_IDS:]
            response = await self._http.post("/api/v1/job/status", query, StatusResponse)
            found.update({item.id: item for item in response.items})
            left += response.left
        return found

    async def cancel(self, run_id: str) -> RunStatus:
        """Cancel a run, known or not; its state afterwards, which is final."""
        return await self._http.post(f"/api/v1/job/{run_id}/cancel", None, RunStatus)

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended, or is unknown. Raises `Conflict` while it hasn't ended."""
        await self._http.delete(f"/api/v1/job/{run_id}")

    async def processors(self) -> list[OfferedProcessor]:
        return (await self._http.get("/api/v1/processor", OfferList)).items

    async def offer(self, offers: Sequence[ProcessorOffer]) -> None:
        await self._http.send("/api/v1/processor", Offers(offers=list(offers)))

    async def claim(self, request: ClaimRequest) -> list[ClaimedRun]:
        timeout = request.wait_seconds + CLAIM_MARGIN_SECONDS
        return (await self._http.post("/api/v1/claim", request, ClaimResponse, timeout)).runs

    async def heartbeat(self, run_id: str, beat: Heartbeat) -> None:
        await self._http.send(f"/api/v1/run/{run_id}/heartbeat", beat)

    async def complete(self, run_id: str, completion: Complete) -> list[ClaimedRun]:
        """Ends the run. Returns the runs of the claim that came along, if one did."""
        return (await self._http.post(f"/api/v1/run/{run_id}/complete", completion, ClaimResponse)).runs

    async def fail(self, run_id: str, failure: Fail) -> None:
        await self._http.send(f"/api/v1/run/{run_id}/fail", failure)

    async def release(self, run_id: str, release: Release) -> None:
        await self._http.send(f"/api/v1/run/{run_id}/release", release)
