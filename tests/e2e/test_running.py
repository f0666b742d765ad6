"""`make up` itself: it leaves nothing behind however it ends, and goes on with the same data."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from deploy.local.mongod import free_port
from tests.support.local import RUNNER, Local, environment, running
from tests.support.marks import long
from tests.support.processes import alive, descendants_of, until

# As under make: the runner has a parent, which may be killed.
UNDER_A_PARENT = ("/bin/sh", "-c", '"$@"; exit $?', "sh", *RUNNER)
PROCESSES = 6  # mongod, blob, job, front, tracker, processor


def end_by_sigterm(local: Local) -> None:
    os.kill(local.pid, signal.SIGTERM)


def end_by_killing_the_runner(local: Local) -> None:
    os.kill(local.pid, signal.SIGKILL)


def end_by_killing_its_parent(local: Local) -> None:
    local.process.kill()


@pytest.mark.parametrize("end", long(end_by_sigterm, end_by_killing_the_runner, end_by_killing_its_parent))
async def test_nothing_is_left_behind(tmp_path: Path, end: Callable[[Local], None]) -> None:
    async with running(environment(tmp_path), UNDER_A_PARENT) as local:
        processes = descendants_of(local.pid)
        assert len(processes) >= PROCESSES
        end(local)
        async with asyncio.timeout(30):
            await until(lambda: not alive(processes))


@pytest.mark.long
async def test_a_second_start_goes_on_with_the_same_data_on_other_ports(tmp_path: Path) -> None:
    async with running(environment(tmp_path)) as first, first.client() as http:
        answer = await post(http)
    async with running(environment(tmp_path)) as second, second.client() as http:
        job = (await http.get(f"{answer.headers['Location']}/status", headers={"Prefer": "wait=60"})).json()
        assert job["status"] == "EXECUTION_COMPLETED"
        assert (await http.get(job["outputs"][0]["href"])).json()["size"] == len(b"hello")


async def post(http: httpx.AsyncClient) -> httpx.Response:
    answer = await http.post("/api/v1/job?processor=checksum", content=b"hello", headers={"Content-Type": "text/plain"})
    return answer.raise_for_status()


async def test_data_in_use_are_refused_in_one_sentence(gristmill: Local, tmp_path: Path) -> None:
    said = await refused({**environment(tmp_path), "GRISTMILL_DATA": str(gristmill.data)})
    assert said.startswith("Gristmill runs already with the data in ")


async def test_a_taken_port_is_refused_in_one_sentence(tmp_path: Path) -> None:
    settings = environment(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(settings["JOB_PORT"])))
        other.listen()
        assert (await refused(settings)).startswith(f"Port {settings['JOB_PORT']} (JOB_PORT) is taken: ")


@pytest.mark.long
async def test_a_mongodb_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    said = await refused({**environment(tmp_path), "MONGODB_URI": f"mongodb://127.0.0.1:{free_port()}/"})
    assert said.startswith("MONGODB_URI, mongodb://127.0.0.1:")


@pytest.mark.long
async def test_a_wrong_setting_of_a_service_ends_it_with_the_services_own_words(tmp_path: Path) -> None:
    said = await refused({**environment(tmp_path), "BLOB_MAX_BLOB_BYTES": "many"})
    assert "blob can't run: BLOB_MAX_BLOB_BYTES: " in said


async def refused(settings: dict[str, str]) -> str:
    """What it says on standard error when it does not start."""
    process = await asyncio.create_subprocess_exec(
        *RUNNER, env=settings, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert len(said.splitlines()) == 1
    return said.decode()
