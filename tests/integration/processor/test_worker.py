"""The worker with real child processes, over a job and a blob in memory."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from common.contracts.job import Complete, Fail, Release
from common.errors import Problem, StorageFull, Unauthorized, Unavailable
from common.ids import output_blob_id
from services.processor.app import open_worker
from services.processor.settings import Settings
from services.processor.worker import Worker
from tests.fakes.processor_ports import FakeBlobs, FakeRuns
from tests.fakes.processors import PID_FILE, Scripted, ScriptedPrograms
from tests.support.processes import seen_from_here

Start = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
def blob() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
def job(blob: FakeBlobs) -> FakeRuns:
    return FakeRuns(blob)


@pytest.fixture
def start(job: FakeRuns, blob: FakeBlobs, tmp_path: Path) -> Start:
    """Runs a worker while the body lasts; stops it at the end, and sees that it leaves no file behind."""

    @asynccontextmanager
    async def started(processor: Scripted | None = None, **changes: Any) -> AsyncIterator[Worker]:
        defaults: dict[str, Any] = {
            "job_url": "http://job",
            "blob_url": "http://blob",
            "key_file": tmp_path / "unused.pem",
            "work_dir": tmp_path / "work",
            "heartbeat_seconds": 0.05,
            "drain_seconds": 20,
            "memory_bytes": 2**29,
        }
        settings = Settings(**defaults | changes)
        async with open_worker(settings, job, blob, {"scripted": processor or Scripted()}) as worker:
            running = asyncio.create_task(worker.run())
            yield worker
            worker.stop()
            await running
        assert [path.name for path in (tmp_path / "work").glob("*/*") if path.name != "lock"] == []

    return started


@pytest.fixture
def child(job: FakeRuns, tmp_path: Path) -> Callable[[], Awaitable[str]]:
    """The id of the child that has just begun to hang, which it tells by its first progress."""
    heard = 0

    async def told() -> str:
        nonlocal heard
        await job.until(lambda: any(beat.progress for _, beat in job.beats[heard:]))
        heard = len(job.beats)
        (left,) = (tmp_path / "work").glob(f"*/*/run-*/work/{PID_FILE}")
        return seen_from_here(left.read_text(), left.parent)

    return told


def alive(pid: str) -> bool:
    try:
        # A zombie is dead; somebody only hasn't asked yet.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def end_of(pid: str) -> asyncio.Future[None]:
    """Done once the process, which lives now, has ended: being killed and being dead are not the same moment."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    watched = os.pidfd_open(int(pid))

    def on_end() -> None:
        loop.remove_reader(watched)
        os.close(watched)
        ended.set_result(None)

    loop.add_reader(watched, on_end)
    return ended


async def test_a_run_is_claimed_worked_on_and_completed(job: FakeRuns, blob: FakeBlobs, start: Start) -> None:
    async with start():
        run = job.submit(b"hello")
        run_id, report = await job.reports.get()
        assert run_id == run.id
        assert isinstance(report, Complete)
        assert [output.name for output in report.outputs] == ["0.txt", "1.txt"]
        assert [output.size for output in report.outputs] == [6, 6]
        assert blob.blobs[output_blob_id(run.id, run.fence, 0)] == b"hello0"
        assert blob.blobs[output_blob_id(run.id, run.fence, 1)] == b"hello1"
        assert job.beats[0][1].started
    assert job.offers[0][0].name == "scripted"
    assert job.offers[0][0].params["properties"]["act"]["default"] == "echo"


async def test_complete_brings_the_next_run_without_another_call(job: FakeRuns, start: Start) -> None:
    runs = [job.submit() for _ in range(3)]
    async with start():
        done = [(await job.reports.get())[0] for _ in runs]
    assert done == [run.id for run in runs]
    # Each complete makes one in the fake; only the first was a call of its own.
    assert job.calls[: job.calls.index("complete")].count("claim") == 1
    assert all(completion.claim is not None for completion in job.completed.values())


async def test_slots_work_side_by_side(job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]) -> None:
    job.submit(act="hang")
    other = job.submit()
    async with start(slots=2, drain_seconds=0):
        assert (await job.reports.get())[0] == other.id
        assert alive(await child())


async def test_one_claim_asks_for_as_many_runs_as_there_are_free_slots(job: FakeRuns, start: Start) -> None:
    runs = [job.submit(act="nap") for _ in range(4)]
    async with start(slots=3):
        done = {(await job.reports.get())[0] for _ in runs}
    assert done == {run.id for run in runs}
    assert len(next(iter(job.claims.values()))) == 3
    assert max(len(claimed) for claimed in job.claims.values()) == 3


async def test_a_run_that_pins_a_version_is_asked_for_and_worked_on(job: FakeRuns, start: Start) -> None:
    job.submit()
    pinned = job.queue.get_nowait().model_copy(update={"processor": "scripted@1.2"})
    job.queue.put_nowait(pinned)
    async with start():
        run_id, report = await job.reports.get()
    assert run_id == pinned.id
    assert isinstance(report, Complete)
    assert job.wanted == ["scripted", "scripted@1", "scripted@1.2", "scripted@1.2.3"]


async def test_a_phase_is_told_soon_though_heartbeats_are_rare(
    job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    job.submit(act="hang")
    async with start(heartbeat_seconds=60, drain_seconds=0):
        await child()
    assert [(beat.phase, beat.progress) for _, beat in job.beats] == [("CLAIMED", None), ("RUNNING", 0.5)]


@pytest.mark.parametrize(
    ("act", "failure", "detail"),
    [
        ("invalid", "invalid-input", "The third page is blank."),
        ("limit", "limit", "At most three pages are taken."),
        ("hog", "resource-limit", "The work needed more memory or disk than it may have."),
        ("abort", "resource-limit", "The work needed more memory or disk than it may have."),
        ("fill", "resource-limit", "The work needed more memory or disk than it may have."),
        ("hang", "timeout", "The work took longer than it may."),
        ("spin", "timeout", "The work took longer than it may."),
        ("kill", "internal", "The processor failed."),
        ("raise", "internal", "The processor failed."),
        ("escape", "internal", "The processor failed."),
        ("twice", "internal", "The processor failed."),
    ],
)
async def test_a_child_that_fails_takes_nothing_with_it(
    job: FakeRuns, start: Start, tmp_path: Path, act: str, failure: str, detail: str
) -> None:
    tight: dict[str, dict[str, Any]] = {"hang": {"wall_seconds": 0.5}, "spin": {"cpu_seconds": 1}}
    secret = tmp_path / "secret"
    secret.write_text("not an output")
    async with start(output_bytes=2**22, **tight.get(act, {})):
        failed = job.submit(act=act, where=str(secret))
        run_id, report = await job.reports.get()
        assert run_id == failed.id
        assert isinstance(report, Fail)
        assert (report.error.type, report.error.detail) == (failure, detail)
        following = job.submit()
        run_id, report = await job.reports.get()
        assert run_id == following.id
        assert isinstance(report, Complete)


async def test_parameters_that_do_not_fit_are_the_users_fault(job: FakeRuns, start: Start) -> None:
    async with start():
        job.submit(act="echo", wrong=1)
        _, report = await job.reports.get()
    assert isinstance(report, Fail)
    assert report.error.type == "invalid-input"
    assert "wrong" in report.error.detail


async def test_the_wall_clock_ends_the_whole_session_of_a_child(
    job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    async with start(ScriptedPrograms(), wall_seconds=1):
        job.submit(act="spawn")
        ended = end_of(await child())
        _, report = await job.reports.get()
        assert isinstance(report, Fail)
        assert report.error.type == "timeout"
        await ended


async def test_a_stale_fence_kills_the_child_and_drops_the_run(
    job: FakeRuns, blob: FakeBlobs, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    async with start():
        lost = job.submit(act="hang")
        ended = end_of(await child())
        job.fences[lost.id] += 1
        before = len(job.calls)
        await ended
        assert job.calls[before:].count("heartbeat") <= 2
        following = job.submit()
        run_id, report = await job.reports.get()
        assert run_id == following.id
        assert isinstance(report, Complete)
    assert job.reports.empty()
    assert not [blob_id for blob_id in blob.blobs if blob_id.startswith(f"o-{lost.id}")]


async def test_a_run_is_dropped_when_job_is_away_for_longer_than_the_lease(
    job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    async with start():
        job.submit(act="hang", lease_seconds=1)
        pid = await child()
        job.errors["heartbeat"] = deque([Unavailable()] * 1000)
        following = job.submit()
        await job.until(lambda: job.calls.count("claim") >= 2)
        assert not alive(pid)
        job.errors.clear()
        assert (await job.reports.get())[0] == following.id


async def test_heartbeats_tell_the_phase_while_the_work_lasts(
    job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    async with start(drain_seconds=0):
        run = job.submit(act="hang")
        await child()
        await job.until(lambda: [beat.phase for _, beat in job.beats].count("RUNNING") >= 2)
    assert {(run_id, beat.fence) for run_id, beat in job.beats} == {(run.id, run.fence)}


async def test_a_lost_answer_to_complete_is_asked_for_again(job: FakeRuns, start: Start) -> None:
    job.lose["complete"] = deque([Unavailable(), Unavailable()])
    first, second = job.submit(), job.submit()
    async with start():
        assert (await job.reports.get())[0] == first.id
        assert (await job.reports.get())[0] == second.id
    assert job.calls.count("complete") == 4


async def test_a_lost_answer_to_a_claim_loses_no_run(job: FakeRuns, start: Start) -> None:
    job.lose["claim"] = deque([Unavailable()])
    run = job.submit()
    async with start():
        assert (await job.reports.get())[0] == run.id
    assert sum(len(runs) for runs in job.claims.values()) == 1


@pytest.mark.parametrize("trouble", [Unavailable(), Unauthorized(), Problem()])
async def test_whatever_job_answers_the_worker_comes_back(job: FakeRuns, start: Start, trouble: Problem) -> None:
    job.errors["claim"] = deque([trouble] * 3)
    job.errors["offer"] = deque([trouble] * 3)
    run = job.submit()
    async with start(offer_seconds=0.01):
        assert (await job.reports.get())[0] == run.id
        await job.until(lambda: bool(job.offers))


async def test_blob_away_or_full_or_flipping_a_bit_only_delays(job: FakeRuns, blob: FakeBlobs, start: Start) -> None:
    blob.errors["open"].extend([Unavailable(), Unavailable()])
    blob.errors["put"].extend([Unavailable(), StorageFull()])
    blob.flip = True
    run = job.submit(b"hello")
    async with start():
        _, report = await job.reports.get()
    assert isinstance(report, Complete)
    assert blob.blobs[output_blob_id(run.id, run.fence, 0)] == b"hello0"


async def test_blob_away_for_good_fails_the_attempt(job: FakeRuns, blob: FakeBlobs, start: Start) -> None:
    blob.errors["open"].extend([Unavailable()] * 1000)
    job.submit()
    async with start(wall_seconds=0.5):
        _, report = await job.reports.get()
    assert isinstance(report, Fail)
    assert report.error.type == "internal"


async def test_an_input_that_is_gone_fails_as_lost(job: FakeRuns, blob: FakeBlobs, start: Start) -> None:
    run = job.submit()
    del blob.blobs[run.inputs[0].blob_id]
    async with start():
        _, report = await job.reports.get()
    assert isinstance(report, Fail)
    assert report.error.type == "input-lost"


async def test_stop_lets_a_run_finish_and_claims_no_more(
    job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    async with start(wall_seconds=2) as worker:
        first = job.submit(act="hang")
        await child()
        worker.stop()
        job.submit()
    assert job.reports.qsize() == 1
    run_id, report = job.reports.get_nowait()
    assert run_id == first.id
    assert isinstance(report, Fail)


async def test_stop_kills_what_outlasts_the_drain_and_gives_it_back(
    job: FakeRuns, start: Start, child: Callable[[], Awaitable[str]]
) -> None:
    async with start(drain_seconds=0.2):
        run = job.submit(act="hang")
        pid = await child()
    run_id, report = job.reports.get_nowait()
    assert run_id == run.id
    assert report == Release(fence=run.fence)
    assert not alive(pid)


async def test_a_child_sees_no_setting_of_the_processor(
    job: FakeRuns, blob: FakeBlobs, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiprocessing import forkserver

    # Stopped, as a crash of it would: the next run starts it anew, with the environment of that moment.
    with contextlib.suppress(AttributeError):
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # no public way
    monkeypatch.setenv("PROCESSOR_KEY_FILE", "/somewhere/secret.pem")
    run = job.submit(act="look")
    async with start():
        await job.reports.get()
    seen = blob.blobs[output_blob_id(run.id, run.fence, 0)].decode()
    assert "PROCESSOR_" not in seen
    assert seen.endswith("True")
