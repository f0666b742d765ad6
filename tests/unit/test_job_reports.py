"""Front hears of runs that end together in one report."""

import asyncio
from collections.abc import Sequence
from typing import Any

from common.contracts.job import RunState, RunStatus
from services.job.use_cases.reports import Reporter


class Front:
    def __init__(self) -> None:
        self.heard: list[list[str]] = []

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        self.heard.append([run.id for run in runs])
        return self.heard[-1]


class Store:
    """What a reporter needs of a `RunStore`."""

    async def statuses(self, ids: Sequence[str]) -> list[RunStatus]:
        return [RunStatus(id=run_id, status=RunState.SUCCESS, fence=1, attempt=1) for run_id in ids]

    async def settle(self, ids: Sequence[str]) -> None:
        """Nothing is kept."""


async def test_runs_that_end_a_turn_of_the_loop_apart_are_reported_together() -> None:
    front, store = Front(), Store()
    settled: list[str] = []
    any_store: Any = store
    reporter = Reporter(any_store, front, lambda run: settled.append(run.id))
    reporting = asyncio.create_task(reporter.report_ended())
    for run_id in ("a", "b"):
        reporter.ended(run_id)
        await asyncio.sleep(0)
    await reporting
    assert front.heard == [["a", "b"]]
    assert settled == ["a", "b"]
