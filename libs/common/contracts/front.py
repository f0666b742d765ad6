"""The bodies of front's internal port: job's reports."""

from pydantic import Field

from common.contracts.job import RunStatus
from gristmill.wire.base import Wire


class Report(Wire):
    """`POST /internal/run`: runs that have ended."""

    runs: list[RunStatus] = Field(min_length=1, max_length=1_000)


class ReportResponse(Wire):
    """The runs whose job is final in front, or gone; job stops reporting these."""

    settled: list[str]
