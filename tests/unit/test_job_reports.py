"""Front hears of runs that end together in one report."""

import asyncio
from collections.abc import Sequence
from typing import Any

from common.clients.job import JobClient
from common.contracts.job import MAX_OUTPUTS, OutputInfo, RunState, RunStatus, StatusQuery, StatusResponse
from common.errors import Unavailable
from services.job.use_cases.reports import Reporter


class Front:
    def __init__(self, refuses: str = "") -> None:
        self.heard: list[list[str]] = []
        self._refuses = refuses

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        self.heard.append([run.id for run in runs])
        if self._refuses in self.heard[-1]:
            raise Unavailable
        return self.heard[-1]


def ended(run_id: str, outputs: int = 0) -> RunStatus:
    output = OutputInfo(name="a", mimetype="text/plain", size=1, sha256="ab" * 32)
    return RunStatus(id=run_id, status=RunState.SUCCESS, fence=1, attempt=1, outputs=[output] * outputs)


class Store:
    """What a reporter needs of a `RunStore`."""

    def __init__(self) -> None:
        self.settled: list[Sequence[str]] = []

    async def settle(self, ids: Sequence[str]) -> None:
        self.settled.append(ids)


async def test_runs_that_end_a_turn_of_the_loop_apart_are_reported_together() -> None:
    front, store = Front(), Store()
    settled: list[str] = []
    any_store: Any = store
    reporter = Reporter(any_store, front, lambda run: settled.append(run.id))
    reporting = asyncio.create_task(reporter.report_ended())
    for run_id in ("a", "b"):
        reporter.ended(ended(run_id))
        await asyncio.sleep(0)
    await reporting
    assert front.heard == [["a", "b"]]
    assert settled == ["a", "b"]


async def test_what_front_has_settled_is_written_down_together_and_once() -> None:
    store = Store()
    any_store: Any = store
    reporter = Reporter(any_store, Front(), lambda _: None)
    for run_id in ("a", "b"):
        reporter.ended(ended(run_id))
        await reporter.report_ended()
    assert store.settled == [], "no report waits for it"
    for _ in range(2):
        await reporter.write_settled()
    assert store.settled == [["a", "b"]]


async def test_a_report_has_so_many_outputs_and_one_that_fails_keeps_no_other_from_front() -> None:
    front, settled = Front(refuses="c"), list[str]()
    store: Any = Store()
    reporter = Reporter(store, front, lambda run: settled.append(run.id))
    for run_id in "abcde":
        reporter.ended(ended(run_id, MAX_OUTPUTS))
    await reporter.report_ended()
    assert front.heard == [["a", "b"], ["c", "d"], ["e"]]
    assert settled == ["a", "b", "e"]


async def test_what_waits_to_be_reported_is_bounded_by_its_outputs_and_the_rest_is_left_until_it_is_due() -> None:
    front = Front()
    store: Any = Store()
    reporter = Reporter(store, front, lambda _: None)
    for _ in range(2):
        for run_id in "abcdefghijkl":
            reporter.ended(ended(run_id, MAX_OUTPUTS))
        await reporter.report_ended()
    assert "".join(run_id for message in front.heard for run_id in message) == "abcdefghij" * 2


async def test_front_asks_again_about_runs_that_did_not_fit_into_one_message() -> None:
    asked: list[list[str]] = []

    class Http:
        async def post(self, _path: str, query: StatusQuery, _model: type[StatusResponse]) -> StatusResponse:
            asked.append(query.ids)
            return StatusResponse.of([ended(run_id, MAX_OUTPUTS) for run_id in query.ids])

    http: Any = Http()
    found = await JobClient(http).statuses(list("abcde"))
    assert asked == [list("abcde"), list("cde"), ["e"]]
    assert sorted(found) == list("abcde")
