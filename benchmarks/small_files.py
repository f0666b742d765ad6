"""Many small files by `POST /batch`, sent straight to the store; and whether memory stays flat meanwhile."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.measure import Effort, Goal, Sample, Section, alternate, say
from benchmarks.memory import forget_peak, peak_mb, resident_mb
from benchmarks.system import system

FILES = 10_000
BATCH = 500
LOOK_EVERY = 1_000
AT_ONCE = 16
FILE_BYTES = 10_000
MOST_GROWN_MB = 40
WATCHED = ("front", "blob")
GRISTMILL = "Gristmill"


async def run(effort: Effort, folder: Path) -> Section:
    files = effort.of(FILES)
    section = Section(
        "small-files",
        "Many small files in batches",
        f"{files:,} files of {FILE_BYTES // 1000} KB a round, announced in batches of {BATCH} one after the other; "
        f"{AT_ONCE} keep-alive connections PUT them to the signed URLs, to blob's own data plane, each file fsynced "
        "before its response. Sent: until the last PUT is answered. Stored: until the tracker, which nobody tells "
        "anything, has found them all, and no job is CREATED any more. front, tracker, blob and job are one process "
        f"each; no processor. RSS is read after each {LOOK_EVERY:,} files; flat is what the last of these has over "
        "the first. No peer, so no ratio.",
        {
            "sent": "files/s, sent",
            "stored": "files/s, stored",
            **{f"{name}_peak": f"{name}: peak RSS, MB" for name in WATCHED},
            **{f"{name}_grown": f"{name}: over idle, MB" for name in WATCHED},
            **{f"{name}_rise": f"{name}: last over first, MB" for name in WATCHED},
        },
    )
    async with (
        system(folder, ["front", "tracker", "blob", "job"]) as up,
        aiohttp.ClientSession(up.front_url) as front,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as blob,
    ):
        await up.offer("nothing")
        client = Client(front, blob, up.token("alice"))
        await client.send(1)
        pids = {name: up.supervisor.running[name] for name in WATCHED}
        idle = {name: resident_mb(pid) for name, pid in pids.items()}
        section.results = await alternate({GRISTMILL: partial(_round, client, files, pids, idle)}, effort)
    result = section.results[GRISTMILL]
    for name in WATCHED:
        grown = result.median(f"{name}_grown")
        section.goals.append(Goal(f"RSS of {name} over idle, MB", grown, MOST_GROWN_MB, at_most=True))
    return section


class Client:
    """Hands in files for `nothing`, which no processor runs."""

    def __init__(self, front: aiohttp.ClientSession, blob: aiohttp.ClientSession, token: str) -> None:
        self._front = front
        self._blob = blob
        self._headers = {"Authorization": f"Bearer {token}"}

    async def send(self, count: int) -> str:
        """A batch of so many files, sent. Returns its id."""
        content = random.randbytes(FILE_BYTES)
        file = {"name": "small.bin", "size": FILE_BYTES, "mimetype": "application/octet-stream"}
        asked = {"processor": "nothing", "files": [file] * count}
        async with self._front.post("/api/v1/batch", json=asked, headers=self._headers) as response:
            response.raise_for_status()
            batch = await response.json()
        uploads = iter(batch["items"])

        async def put_some() -> None:
            for item in uploads:
                async with self._blob.put(item["upload"]["url"], data=content) as response:
                    response.raise_for_status()

        await asyncio.gather(*(put_some() for _ in range(AT_ONCE)))
        found: str = batch["id"]
        return found

    async def stored(self, batch_id: str) -> None:
        """Wait until front knows that all files of a batch are stored."""
        while True:
            if not (await self._batch(batch_id))["counts"].get("CREATED"):
                return
            await asyncio.sleep(0.1)

    async def _batch(self, batch_id: str) -> dict[str, Any]:
        async with self._front.get(f"/api/v1/batch/{batch_id}?limit=1", headers=self._headers) as response:
            response.raise_for_status()
            batch: dict[str, Any] = await response.json()
            return batch


async def _round(client: Client, files: int, pids: dict[str, int], idle: dict[str, float]) -> Sample:
    for pid in pids.values():
        forget_peak(pid)
    seen: dict[str, list[float]] = {name: [] for name in pids}
    batches = []
    started = time.monotonic()
    sizes = _sizes(files)
    while some := list(islice(sizes, LOOK_EVERY // BATCH)):
        batches += [await client.send(size) for size in some]
        for name, pid in pids.items():
            seen[name].append(resident_mb(pid))
    sent = time.monotonic() - started
    for batch_id in batches:
        await client.stored(batch_id)
    stored = time.monotonic() - started
    for name, each in seen.items():
        say(f"    RSS of {name} after each {LOOK_EVERY:,}, MB: {', '.join(f'{rss:.1f}' for rss in each)}")
    peak = {name: peak_mb(pid) for name, pid in pids.items()}
    figures: dict[str, Callable[[str], float]] = {
        "peak": lambda name: peak[name],
        "grown": lambda name: peak[name] - idle[name],
        "rise": lambda name: seen[name][-1] - seen[name][0],
    }
    memory = {f"{name}_{figure}": value(name) for figure, value in figures.items() for name in pids}
    return {"sent": files / sent, "stored": files / stored, **memory}


def _sizes(files: int) -> Iterator[int]:
    """Of the batches."""
    for first in range(0, files, BATCH):
        yield min(BATCH, files - first)
