"""job's reports: many runs that have ended become final in one write, however far front had written their jobs."""

from typing import Any

from common.contracts.job import RunState, RunStatus
from common.ids import new_id
from common.mongo.client import opened
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.domain.job import NewJob, Owner, Status, Transition
from services.front.use_cases.advance import Advance
from services.front.use_cases.reports import TakeReports
from tests.support.commands import Commands

LONG = 600.0


async def test_a_report_is_one_write_and_only_what_it_did_not_end_is_read(mongodb_uri: str, database_name: str) -> None:
    nobody: Any = None  # a report is between job and the store
    commands, woken = Commands(), set[str]()
    async with opened(mongodb_uri, commands) as client:
        jobs = MongoJobStore(client, database_name)
        advance = Advance(jobs, nobody, nobody, nobody, lease_seconds=LONG, ask_seconds=LONG)
        take_reports = TakeReports(jobs, advance, woken.add)
        new = [NewJob(new_id(), Owner("acme", "alice"), "n", "text/plain", 1, "checksum", {}, "a") for _ in range(4)]
        ids = [(await jobs.insert_stored(job, LONG)).id for job in new]
        await jobs.apply(ids[0], Transition.submitted(), LONG)
        created = (await jobs.insert_created(NewJob(new_id(), Owner("t", "s"), "n", "t/p", 1, "checksum", {}), LONG)).id

        commands.said.clear()
        runs = [RunStatus(id=job_id, status=RunState.FAILED, fence=1, attempt=1) for job_id in ids]
        assert await take_reports(runs) == ids
        assert woken == set(ids)
        # The first of many writes doesn't wait for the others.
        assert {command.name for command in commands.said} == {"update"}
        assert len(commands.said) <= 2
        ended = await jobs.find_many(ids)
        way = [Status.CREATED, Status.STORED, Status.SUBMITTED, Status.EXECUTION_ERROR]
        assert [[status for status, _ in job.history] for job in ended.values()] == [way] * 4

        woken.clear()
        gone = new_id()
        again = [*runs, *(run.model_copy(update={"id": job_id}) for run in runs[:1] for job_id in (gone, created))]
        assert await take_reports(again) == [*ids, gone], "a job that can't be final yet is reported again"
        assert woken == set()
        assert await jobs.find_many(ids) == ended
