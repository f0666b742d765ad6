"""A run that ends its processor each time: three times, and then no more. Others don't notice."""

import asyncio
import os
import signal
from pathlib import Path

from tests.e2e.conftest import environment, running
from tests.processes import until

OTHERS = 6
# A plug-in as pip would have installed it, found in the folder that the processes start in.
SLEEPER = """
import time
from gristmill import Params, Processor

class Sleeper(Processor[Params]):
    name, version, summary = "sleeper", "1.0.0", "Sleeps until its processor is killed."
    media_types = ("*/*",)
    params_model = Params

    def process(self, file, params, context):
        context.new_file("asleep").touch()
        time.sleep(3600)
"""


def install(folder: Path) -> None:
    (folder / "sleeper.py").write_text(SLEEPER)
    described = folder / "sleeper-1.0.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: sleeper\nVersion: 1.0.0\n")
    (described / "entry_points.txt").write_text("[gristmill.processors]\nsleeper = sleeper:Sleeper\n")


def sleeping_in(work: Path) -> dict[int, Path]:
    """The processors whose run sleeps, by their ids, which their folders begin with."""
    return {int(asleep.parents[2].name.partition("-")[0]): asleep for asleep in work.glob("*/*/run-*/work/output-1")}


async def test_a_run_that_ends_three_processors_is_poison_and_others_do_not_notice(tmp_path: Path) -> None:
    plug_ins, work = tmp_path / "plug-ins", tmp_path / "work"
    plug_ins.mkdir()
    install(plug_ins)
    settings = {
        **environment(tmp_path / "data"),
        "PROCESSOR_WORK_DIR": str(work),
        # With more, a run beside it loses an attempt too, and may do so three times: nobody knows which one it was.
        "PROCESSOR_SLOTS": "1",
        "JOB_BACKOFF_SECONDS": "0.1",
    }
    killed: set[int] = set()
    async with running(settings, folder=plug_ins) as local, local.client() as http, asyncio.timeout(100):

        async def submit(processor: str) -> str:
            answer = await http.post(
                f"/api/v1/job?processor={processor}", content=b"hello", headers={"Content-Type": "text/plain"}
            )
            return str(answer.raise_for_status().headers["Location"])

        async def ended(location: str) -> dict[str, object]:
            while True:
                answer = await http.get(f"{location}/status", headers={"Prefer": "wait=10"})
                job: dict[str, object] = answer.raise_for_status().json()
                if job["status"] not in ("STORED", "SUBMITTED"):
                    return job

        poison = await submit("sleeper")
        others = []
        for _ in range(3):
            others += [await submit("checksum") for _ in range(OTHERS // 3)]
            await until(lambda: bool(sleeping_in(work).keys() - killed))
            (victim,) = sleeping_in(work).keys() - killed
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
        job = await ended(poison)
        assert job["status"] == "EXECUTION_ERROR"
        assert str(job["error"]["type"]).endswith("poison")  # type: ignore[index]
        for other in others:
            end = await ended(other)
            assert end["status"] == "EXECUTION_COMPLETED", end
        assert len(killed) == 3
