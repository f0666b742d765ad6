"""Take job's reports of runs that have ended."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from common import telemetry
from common.contracts.job import RunStatus
from common.logging import get_logger
from services.front.ports import JobStore
from services.front.use_cases.advance import Advance

log = get_logger()


class TakeReports:
    """Any process may take a report, and take it again: a job that is final stays as it is. `on_end` is called with
    each job that ends here.
    """

    def __init__(self, jobs: JobStore, advance: Advance, on_end: Callable[[str], None]) -> None:
        self._jobs = jobs
        self._advance = advance
        self._on_end = on_end

    async def __call__(self, runs: Sequence[RunStatus]) -> list[str]:
        """The runs whose jobs are final now, or gone: job need not report these again."""
        parents = await self._traceparents(runs)
        ending = (self._end(run, parents.get(run.id)) for run in runs)
        results = await asyncio.gather(*ending, return_exceptions=True)
        others = []  # whose jobs had ended before, are gone, or couldn't be ended
        for run, result in zip(runs, results, strict=True):
            if result is True:
                continue
            others.append(run.id)
            if isinstance(result, Exception):  # the others are settled all the same; job reports this one again
                log.error("report.not_settled", exc_info=result)
            elif isinstance(result, BaseException):
                raise result
        left = await self._jobs.find_many(others)
        return [run.id for run in runs if run.id not in left or left[run.id].status.is_final]

    async def _end(self, run: RunStatus, traceparent: str | None) -> bool:
        with telemetry.span("settle", parent=traceparent):
            ended = await self._advance.end(run)
        if ended:
            self._on_end(run.id)
        return ended

    async def _traceparents(self, runs: Sequence[RunStatus]) -> Mapping[str, str | None]:
        """One report is of many jobs, each of which has a trace of its own, if there are traces at all."""
        if not telemetry.is_on():
            return {}
        jobs = await self._jobs.find_many([run.id for run in runs])
        return {job.id: job.traceparent for job in jobs.values()}
