"""Front's internal port: job reports the runs that have ended."""

from fastapi import APIRouter, Depends

from common.contracts.front import Report, ReportResponse
from common.web.access import callers
from services.front.use_cases.reports import TakeReports


def router(take_reports: TakeReports) -> APIRouter:
    routes = APIRouter(prefix="/internal", dependencies=[Depends(callers("job"))])

    @routes.post("/run")
    async def take_report(report: Report) -> ReportResponse:
        return ReportResponse(settled=await take_reports(report.runs))

    return routes
