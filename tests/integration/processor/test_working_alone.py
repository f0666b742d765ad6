"""A run that may have ended processors before is worked on when nothing else is, so that none other can be to blame."""

from pathlib import Path

from common.contracts.job import ClaimedRun, Complete, Fail, Release
from tests.fakes.processors import Scripted
from tests.support.one_processor import OneProcessor, one_processor


async def until_held(worker: OneProcessor, run: ClaimedRun) -> None:
    """Wait until it has been held for some heartbeats."""
    await worker.job.until(lambda: [run_id for run_id, _ in worker.job.beats].count(run.id) >= 3)


def has_started(worker: OneProcessor, run: ClaimedRun) -> bool:
    return any(beat.started for run_id, beat in worker.job.beats if run_id == run.id)


async def test_a_run_that_is_to_be_alone_waits_for_others_and_keeps_others_out(tmp_path: Path) -> None:
    async with one_processor(Scripted(), tmp_path, slots=3, wall_seconds=3) as worker:
        job = worker.job
        under_way = job.submit(act="hang")
        await job.until(lambda: has_started(worker, under_way))
        suspect, beside = job.submit(act="nap", alone=True), job.submit()
        await until_held(worker, suspect)
        later = job.submit()
        reports = [await job.reports.get() for _ in range(4)]
    assert [run_id for run_id, _ in reports] == [beside.id, under_way.id, suspect.id, later.id]
    assert [type(report) for _, report in reports] == [Release, Fail, Complete, Complete]
    held = [beat for run_id, beat in job.beats if run_id == suspect.id]
    assert [beat.started for beat in held] == sorted(beat.started for beat in held)
    started = next(n for n, (run_id, beat) in enumerate(job.beats) if run_id == suspect.id and beat.started)
    assert under_way.id not in [run_id for run_id, _ in job.beats[started:]]


async def test_a_run_that_waits_to_be_alone_is_given_back_by_a_worker_that_stops(tmp_path: Path) -> None:
    async with one_processor(Scripted(), tmp_path, slots=2, drain_seconds=0) as worker:
        under_way, suspect = worker.job.submit(act="hang"), worker.job.submit(alone=True)
        await until_held(worker, suspect)
    given_back = [worker.job.reports.get_nowait() for _ in range(2)]
    assert {run_id: type(report) for run_id, report in given_back} == {under_way.id: Release, suspect.id: Release}
    assert not has_started(worker, suspect)
