"""A processor that is told to stop, by a signal to more than itself: a terminal and systemd do so."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import pytest

from tests.support.processes import descendants_of

WORKER = """
import asyncio, signal, tempfile
from pathlib import Path
from services.processor.app import open_worker
from services.processor.settings import Settings
from tests.fakes.processor_ports import FakeBlobs, FakeRuns
from tests.fakes.processors import Scripted

async def main():
    blob = FakeBlobs()
    job = FakeRuns(blob)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            job_url="http://job", blob_url="http://blob", key_file="unused", work_dir=folder, heartbeat_seconds=0.05
        )
        async with open_worker(settings, job, blob, {"scripted": Scripted()}) as worker:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, worker.stop)
            running = asyncio.create_task(worker.run())
            job.submit(act="nap")
            await job.until(lambda: any(beat.progress for _, beat in job.beats))
            print("working", flush=True)
            await running
        print(type(job.reports.get_nowait()[1]).__name__, flush=True)

asyncio.run(main())
"""


def to_the_group(pid: int, number: signal.Signals) -> None:
    os.killpg(pid, number)


def to_each_process(pid: int, number: signal.Signals) -> None:
    for each in descendants_of(pid) | {pid}:
        os.kill(each, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [to_the_group, to_each_process])
async def test_a_run_ends_well_in_the_drain_time_whoever_else_gets_the_signal(
    send: Callable[[int, signal.Signals], None], number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, start_new_session=True, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    said: list[str] = []
    async for line in process.stdout:
        said.append(line.decode().strip())
        if said[-1] == "working":
            send(process.pid, number)
    await process.wait()
    assert (said[-1], process.returncode) == ("Complete", 0)
