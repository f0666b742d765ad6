"""Calls to front's internal port: job reports the runs that have ended."""

from collections.abc import Sequence

from common.clients.http import ServiceHttp
from common.contracts.front import Report, ReportResponse
from common.contracts.job import RunStatus


class FrontClient:
    """front's internal API. Raises `common.errors`."""

    def __init__(self, http: ServiceHttp) -> None:
        self._http = http

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        """Returns the ids of the runs that front has settled, and that need no further report."""
        return (await self._http.post("/internal/run", Report(runs=list(runs)), ReportResponse)).settled
