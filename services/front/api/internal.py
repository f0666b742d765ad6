"""The port of front's that is not for the public: job reports the runs that have ended."""

from fastapi import APIRouter, Depends, Request

from common.contracts.front import Report, ReportAnswer
from common.web.access import callers
from services.front.use_cases.read import TakeReports

router = APIRouter(prefix="/internal", dependencies=[Depends(callers("job"))])


@router.post("/run")
async def take_report(request: Request, report: Report) -> ReportAnswer:
    take: TakeReports = request.app.state.take_reports
    return ReportAnswer(settled=await take(report.runs))
