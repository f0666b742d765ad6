"""Work that hangs, wants too much, or ends its processor, and a processor that sleeps through its lease."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.journey import ENOUGH_SECONDS, RAW, ended, logged
from tests.support.local import Local, environment, running
from tests.support.processes import children_of, until

# Plug-ins as pip would have installed them, found in the folder that the processes start in. `Sleeper` says
# which of its attempts made the output.
PLUG_INS = """
import os, time
from gristmill import Output, Params, Processor

class Plain(Processor[Params]):
    version, media_types, params_model = "1.0.0", ("*/*",), Params

class Hanging(Plain):
    name, summary = "hanging", "Never ends."

    def process(self, file, params, context):
        time.sleep(3600)

class Greedy(Plain):
    name, summary = "greedy", "Takes all the memory that there is."

    def process(self, file, params, context):
        kept = []
        while True:
            kept.append(bytes(2**24))  # untouched: the address space is used up long before the run's time is

class Sleeper(Plain):
    name, summary = "sleeper", "Sleeps for as many seconds as the file says."

    def process(self, file, params, context):
        mark = context.new_file("asleep")
        seconds = file.path.read_text()
        mark.write_text(f"{seconds} s in {os.getpid()}")
        time.sleep(float(seconds))
        return [Output("asleep", "text/plain", mark)]
"""
NAMES = ("hanging", "greedy", "sleeper")


def install(folder: Path, before: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "faulty.py").write_text(before + PLUG_INS)
    described = folder / "faulty-1.0.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0.0\n")
    points = "".join(f"{name} = faulty:{name.capitalize()}\n" for name in NAMES)
    (described / "entry_points.txt").write_text(f"[gristmill.processors]\n{points}")


@dataclass(frozen=True)
class Mill:
    """A Gristmill with these plug-ins. `work` is where processors keep their runs, in folders named by their ids."""

    local: Local
    work: Path

    def asleep(self) -> set[tuple[int, str]]:
        """The runs that sleep: the ids of their processors, and for how many seconds."""
        marks = [(mark, mark.read_text()) for mark in self.work.glob("*/*/run-*/work/output-1")]
        return {(int(mark.parents[2].name.partition("-")[0]), text.split()[0]) for mark, text in marks if text}

    def processors(self) -> dict[int, str]:
        """The logs' names of the processors, by their ids."""
        pids = sorted(
            pid for pid, arguments in children_of(self.local.pid).items() if arguments.endswith("-m services.processor")
        )
        return {pid: f"processor-{number}" for number, pid in enumerate(pids, start=1)}


async def submit(http: httpx.AsyncClient, processor: str, content: str = "") -> str:
    path = f"/api/v1/job?processor={processor}"
    answer = await http.post(path, content=content.encode() or b"-", headers=RAW)
    return str(answer.raise_for_status().headers["Location"])


def reason(job: dict[str, object]) -> str:
    """Why a job has failed."""
    assert job["status"] == "EXECUTION_ERROR", job
    error = job["error"]
    assert isinstance(error, dict)
    return str(error["type"]).rpartition("/")[2]


async def open_mill(folder: Path, before: str = "", **settings: str) -> AsyncIterator[Mill]:
    """`before` is what each processor does first, in the folder `plug-ins`."""
    plug_ins, work = folder / "plug-ins", folder / "work"
    install(plug_ins, before)
    told = {
        **environment(folder / "data"),
        "PROCESSOR_WORK_DIR": str(work),
        "JOB_BACKOFF_SECONDS": "0.1",
        **settings,
    }
    async with running(told, folder=plug_ins) as local, asyncio.timeout(ENOUGH_SECONDS):
        yield Mill(local, work)


@pytest.fixture(scope="module")
async def mill(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mill]:
    settings = {"PROCESSORS": "2", "PROCESSOR_WALL_SECONDS": "2", "PROCESSOR_MEMORY_BYTES": str(2**30)}
    async for each in open_mill(tmp_path_factory.mktemp("mill"), **settings):
        yield each


@pytest.mark.long
@pytest.mark.parametrize(
    ("processor", "why", "attempts"),
    [pytest.param("hanging", "timeout", 3, id="12"), pytest.param("greedy", "resource-limit", 1, id="13")],
)
async def test_fault_12_13_work_that_goes_too_far_ends_and_its_processor_does_not(
    mill: Mill, processor: str, why: str, attempts: int
) -> None:
    before = mill.processors()
    async with mill.local.client() as http:
        job = await ended(http, await submit(http, processor))
        assert (reason(job), job["attempt"]) == (why, attempts)
        beside = await ended(http, await submit(http, "checksum"))
        assert beside["status"] == "EXECUTION_COMPLETED"
    assert mill.processors() == before


@pytest.mark.long
async def test_fault_15_a_processor_that_wakes_past_its_lease_changes_nothing(mill: Mill) -> None:
    async with mill.local.client() as http:
        location = await submit(http, "sleeper", "1")
        await until(lambda: bool(mill.asleep()))
        ((first, _),) = mill.asleep()
        os.kill(first, signal.SIGSTOP)
        try:
            job = await ended(http, location)
            output = (await http.get(f"{location}/output")).raise_for_status()
        finally:
            os.kill(first, signal.SIGCONT)
        await logged(mill.local, mill.processors()[first], "run.lost", run=location.rpartition("/")[2])
        assert (job["status"], job["attempt"]) == ("EXECUTION_COMPLETED", 2)
        assert (await http.get(f"{location}/output")).text == output.text
        assert len((await http.get(location)).json()["outputs"]) == 1


@pytest.mark.slow  # two lapses, and a nap
async def test_fault_14_a_run_that_ends_three_processors_is_poison_and_its_neighbours_are_not(tmp_path: Path) -> None:
    """Another run is at work in the same processor whenever it is ended. Which of the two is to blame shows the third
    time, when each is worked on alone.
    """
    killed: set[int] = set()
    async for mill in open_mill(tmp_path, PROCESSOR_SLOTS="2"):
        async with mill.local.client() as http:
            poison, neighbour = await submit(http, "sleeper", "3600"), await submit(http, "sleeper", "4")
            poisoned = asyncio.create_task(ended(http, poison))
            while not poisoned.done():
                asleep = {(pid, seconds) for pid, seconds in mill.asleep() if pid not in killed}
                at_work = {seconds for _, seconds in asleep}
                if "3600" in at_work and (len(killed) == 2 or "4" in at_work):
                    ((victim, _), *_) = asleep
                    killed.add(victim)
                    os.kill(victim, signal.SIGKILL)
                await asyncio.sleep(0.05)
            assert reason(poisoned.result()) == "poison"
            assert len(killed) == 3
            job = await ended(http, neighbour)
            assert (job["status"], job["attempt"]) == ("EXECUTION_COMPLETED", 3)
