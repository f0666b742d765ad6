"""Processors whose clocks are wrong, beside one whose clock is right."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.faults.test_processors import Mill, open_mill, submit
from tests.support.journey import ended, logged
from tests.support.processes import until

pytestmark = pytest.mark.long

# Read by each processor as it starts: the first two take a shift of their clock, in seconds, and leave their ids.
# What a processor forks is no processor.
SHIFTS = """
import os, sys, time

for shift in (3600, -3600):
    if sys.argv[0] != "-c" and os.path.exists(f"{shift}"):
        try:
            os.rename(f"{shift}", f"{shift} {os.getpid()}")
        except FileNotFoundError:
            continue
        right = time.time
        time.time = lambda: right() + shift
        break
"""


def asleep(mill: Mill) -> bool:
    return bool(mill.asleep())


async def test_fault_26_the_clocks_of_two_processors_are_off_by_an_hour(tmp_path: Path) -> None:
    plug_ins = tmp_path / "plug-ins"
    plug_ins.mkdir()
    for shift in ("3600", "-3600"):
        (plug_ins / shift).touch()
    async for mill in open_mill(tmp_path, SHIFTS, PROCESSORS="3"):
        wrong = {int(path.name.split()[1]) for path in plug_ins.glob("*3600 *")}
        assert len(wrong) == 2
        for pid in wrong:
            await logged(mill.local, mill.processors()[pid], "offer.failed", error="Unauthorized")
        async with mill.local.client() as http:
            location = await submit(http, "sleeper", "4")
            await until(partial(asleep, mill))
            ((right, _),) = mill.asleep()
            assert right not in wrong
            os.kill(right, signal.SIGKILL)
            job = await ended(http, location)
        # Again once its lease had lapsed, and not while the next was kept: the work takes longer than a lease.
        assert (job["status"], job["attempt"]) == ("EXECUTION_COMPLETED", 2)
