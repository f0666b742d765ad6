"""One large file to blob and back, with and without BLOB_KEYS."""

import asyncio
import base64
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.measure import Effort, Goal, Sample, Section, alternate, say
from benchmarks.system import System, system
from benchmarks.upload import SIZE, SMALL, clear, curl, fill
from common.auth import ServiceTokenSigner
from common.ids import input_blob_id, new_id

PLAIN, ENCRYPTED = "as it is", "encrypted (`BLOB_KEYS`)"
MOST = 1.15


async def run(effort: Effort, folder: Path) -> Section:
    size = effort.of(SIZE)
    section = Section(
        "at-rest",
        "A large file, encrypted at rest",
        f"{size / 2**20:,.0f} MiB from curl straight to a blob process with a folder of its own and, once that has "
        "answered and all is on disk, back to curl, which throws it away. Both are read from the page cache. curl and "
        "blob share the machine's cores. CPU is what blob's process has used, its threads and the kernel's part "
        "included. The ratios are medians of the ratios of each round, whose sides are a few seconds apart.",
        {
            "put": "PUT, MB/s",
            "put_seconds": "PUT, s",
            "put_cpu": "PUT, blob's CPU, s",
            "get": "GET, MB/s",
            "get_seconds": "GET, s",
            "get_cpu": "GET, blob's CPU, s",
        },
    )
    say("  Making a file ...")
    large, small, keys = (folder / name for name in ("large", "small", "keys"))
    await asyncio.to_thread(fill, large, size)
    await asyncio.to_thread(fill, small, SMALL)
    keys.mkdir()
    (keys / "bench").write_bytes(base64.b64encode(os.urandom(32)))
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(system(folder / "plain", ["blob"]))
        encrypted = await stack.enter_async_context(system(folder / "encrypted", ["blob"], BLOB_KEYS=str(keys)))
        sides = {PLAIN: plain, ENCRYPTED: encrypted}
        for up in sides.values():
            await _there_and_back(up, small, SMALL)
        section.results = await alternate(
            {name: partial(_there_and_back, up, large, size) for name, up in sides.items()}, effort
        )
    taken = [section.results[name].samples for name in (ENCRYPTED, PLAIN)]
    for what in ("put", "get"):
        time_ratio, cpu_ratio = (_ratio(taken, f"{what}_{figure}") for figure in ("seconds", "cpu"))
        section.goals.append(Goal(f"Time of a {what.upper()}, against plain", time_ratio, MOST, at_most=True))
        section.notes.append(f"blob's CPU for a {what.upper()}, against plain: {cpu_ratio:.2f}.")
    return section


def _ratio(taken: Sequence[Sequence[Sample]], figure: str) -> float:
    ours, others = taken
    return statistics.median(our[figure] / other[figure] for our, other in zip(ours, others, strict=True))


async def _there_and_back(up: System, file: Path, size: int) -> Sample:
    token = ServiceTokenSigner.from_file("front", up.keys.private("front")).token("blob")
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{up.blob_url}/api/v1/blob/{input_blob_id(new_id())}"
    pid = up.supervisor.running["blob"]
    await asyncio.to_thread(clear, file)
    put = await _timed(pid, curl("PUT", url, headers, file))
    os.sync()
    get = await _timed(pid, ["curl", "-sS", "-f", "-H", f"Authorization: Bearer {token}", "-o", os.devnull, url])
    async with aiohttp.ClientSession() as http, http.delete(url, headers=headers) as response:
        response.raise_for_status()
    return {
        "put": size / 1e6 / put[0],
        "put_seconds": put[0],
        "put_cpu": put[1],
        "get": size / 1e6 / get[0],
        "get_seconds": get[0],
        "get_cpu": get[1],
    }


async def _timed(pid: int, command: list[str]) -> tuple[float, float]:
    """How long the command takes, and the CPU time that the process uses meanwhile, both in seconds."""
    cpu, started = _cpu_seconds(pid), time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise RuntimeError(f"{command[0]} ended with {process.returncode}.")
    return time.monotonic() - started, _cpu_seconds(pid) - cpu


def _cpu_seconds(pid: int) -> float:
    user, system_ = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system_)) / os.sysconf("SC_CLK_TCK")
