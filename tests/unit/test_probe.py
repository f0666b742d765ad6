"""Probes: what they say of a process that is well, of one that hangs, and of one that isn't there."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common import probe
from deploy.local import keys
from tests.support.processes import until


async def run(*arguments: str) -> tuple[int | None, str]:
    """What the command answers, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "common.probe", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


@asynccontextmanager
async def served(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that answers everything with this."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/readyz"


async def test_a_route_that_answers_is_well() -> None:
    async with served(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as url:
        assert await run(url) == (0, "")


async def test_a_route_that_refuses_is_not() -> None:
    async with served(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as url:
        assert await run(url) == (1, f"{url} answers 503.\n")


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
async def test_what_is_no_answer_is_one_sentence(answer: bytes) -> None:
    async with served(answer) as url:
        code, said = await run(url)
    assert code == 1
    assert said.startswith(f"{url} doesn't answer: ")
    assert said.count("\n") == 1


def test_a_file_is_well_as_long_as_it_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    assert probe.fault_of(str(file)).startswith(f"The process hasn't touched {file}")
    file.touch()
    assert probe.fault_of(str(file)) == ""
    long_ago = time.time() - probe.LATEST_BEAT_SECONDS - 5
    os.utime(file, (long_ago, long_ago))
    assert probe.fault_of(str(file)).startswith(f"The process touched {file} 35 s ago")


@pytest.mark.parametrize(
    ("module", "prefix", "more"),
    [
        ("services.front.tracker", "FRONT_", {"FRONT_MONGODB_URI": "mongodb://127.0.0.1:1"}),
        ("services.processor", "PROCESSOR_", {}),
    ],
)
async def test_a_process_without_a_port_shows_life_also_while_all_it_calls_is_away(
    module: str, prefix: str, more: dict[str, str], tmp_path: Path
) -> None:
    # The tracker gets no token settings here and no folder of callers: it must not need them.
    file = tmp_path / "alive"
    nowhere = "http://127.0.0.1:1"
    told = {
        "KEY_FILE": str(keys.ensure(tmp_path).private("front")),
        "BLOB_URL": nowhere,
        "JOB_URL": nowhere,
        "ALIVE_FILE": str(file),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env={"PATH": os.environ["PATH"], **{prefix + name: value for name, value in told.items()}, **more},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: file.exists() or process.returncode is not None)
        assert probe.fault_of(str(file)) == ""
    finally:
        process.terminate()
    assert await process.wait() == 0
