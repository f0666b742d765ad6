"""A backup that is ended, by whom and when ever, leaves a Gristmill that goes on, and takes the next backup."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.ids import input_blob_id
from tests.support.journey import assert_completes, hand_in
from tests.support.local import environment, running
from tests.support.marks import long
from tests.support.processes import alive, descendants_of, until

# `make backup` at a terminal that wants Return after each line, so that it can be ended just there.
AT_A_SLOW_TERMINAL = """
import contextlib, sys
from deploy.local.__main__ import main

class Terminal:
    def write(self, text):
        sys.__stdout__.write(text)
    def flush(self):
        sys.__stdout__.flush()
        sys.stdin.readline()

with contextlib.redirect_stdout(Terminal()):
    sys.exit(main())
"""
STAGES = ["Copying the database ...", "Copying the blobs ...", "Backed up to"]


@asynccontextmanager
async def backing_up(to: Path, stage: str, settings: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A backup, in a process group of its own, that has come to this stage and goes no further."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AT_A_SLOW_TERMINAL, "backup", str(to),
        env=settings, start_new_session=True, stdin=-1, stdout=-1, stderr=-2,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    while not (line := (await process.stdout.readline()).decode()).startswith(stage):
        assert line.startswith("Copying"), line
        process.stdin.write(b"\n")
    yield process
    await process.communicate()


@pytest.mark.parametrize("end", [os.killpg, *long(os.kill)])
@pytest.mark.parametrize("number", [signal.SIGKILL, *long(signal.SIGTERM, signal.SIGHUP)])
async def test_gristmill_goes_on_when_a_backup_is_ended(
    tmp_path: Path, end: Callable[[int, int], None], number: signal.Signals
) -> None:
    settings = environment(tmp_path / "data")
    async with running(settings) as local, local.client() as http, local.blob() as blobs:
        for stage in STAGES:
            to = tmp_path / stage
            async with backing_up(to, stage, settings) as process:
                end(process.pid, number)
            assert process.returncode == (-number if number == signal.SIGKILL else 1)
            assert to.exists() == (stage == STAGES[-1])
            job = await hand_in(http)
            await assert_completes(http, job)
            while await blobs.head(input_blob_id(job.rsplit("/", 1)[-1])):  # noqa: ASYNC110 - until it is deleted
                await asyncio.sleep(0.1)
    left = list(tmp_path.glob("*.part"))  # noqa: ASYNC240 - nothing else runs
    assert len(left) == (2 if number == signal.SIGKILL else 0), "who is killed can't clean up"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
async def test_an_ended_backup_leaves_no_mongod(tmp_path: Path, number: signal.Signals) -> None:
    settings = environment(tmp_path / "data")
    for folder in ("mongodb", "blobs/blobs", "keys"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    async with backing_up(tmp_path / "to", STAGES[0], settings) as process:
        processes = descendants_of(process.pid)
        assert processes
        os.kill(process.pid, number)
    await until(lambda: not alive(processes))
