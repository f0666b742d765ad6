"""HTTP load on one address: wrk where it can be had, else a client in Python, which is the slower side itself."""

import asyncio
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import aiohttp

from benchmarks import peers
from benchmarks.measure import Sample, percentile

CONNECTIONS = 32
SCRIPT = Path(__file__).parent / "load.lua"


@cache
def find_wrk() -> str | None:
    """The path of wrk, or None where it can't be had."""
    try:
        return peers.debian("wrk", "wrk")
    except peers.MissingPeerError:
        return None


class LoadError(Exception):
    """A request of the load was refused or lost, so what was measured is not what was meant."""


async def get_load(base_url: str, paths: Sequence[str], token: str, seconds: float, folder: Path) -> Sample:
    """GET these paths over and over on 32 keep-alive connections. Requests per second, and milliseconds.

    Raises `LoadError` if any answer is not 2xx.
    """
    wrk = await asyncio.to_thread(find_wrk)
    if wrk is None:
        return await _python_load(base_url, paths, token, seconds)
    listed = folder / "paths.txt"
    await asyncio.to_thread(listed.write_text, "\n".join(paths))
    process = await asyncio.create_subprocess_exec(
        wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT),
        "-H", f"Authorization: Bearer {token}", base_url, str(listed),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await process.communicate()
    figures = [line.split()[1:] for line in printed.decode().splitlines() if line.startswith("RESULT ")]
    if process.returncode or not figures:
        raise LoadError(f"wrk ended with {process.returncode}: {printed.decode()[-500:]}")
    requests, microseconds, p50, p99, failed = map(int, figures[0])
    if failed:
        raise LoadError(f"{failed} of {requests} requests to {base_url} failed.")
    return {"rps": requests / microseconds * 1e6, "p50": p50 / 1e3, "p99": p99 / 1e3}


async def _python_load(base_url: str, paths: Sequence[str], token: str, seconds: float) -> Sample:
    taken: list[float] = []
    started = time.monotonic()

    async def connection(http: aiohttp.ClientSession, first: int) -> None:
        n = first
        while (before := time.monotonic()) < started + seconds:
            async with http.get(base_url + paths[n % len(paths)]) as response:
                await response.read()
                if not response.ok:
                    raise LoadError(f"{base_url} answered {response.status}.")
            taken.append(time.monotonic() - before)
            n += CONNECTIONS

    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        asyncio.TaskGroup() as group,
    ):
        for first in range(CONNECTIONS):
            group.create_task(connection(http, first))
    rate = len(taken) / (time.monotonic() - started)
    return {"rps": rate, "p50": percentile(taken, 50) * 1e3, "p99": percentile(taken, 99) * 1e3}
