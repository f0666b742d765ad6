"""`python -m tests.soak.neighbours`: one tenant does all that it can to starve the others, and another one goes on.

The attacks are those of the review that found shares missing, each as large as it was then, and made again when it is
refused. They run in a process of their own, so that what they cost isn't counted as the victim's. The command fails
when the victim gets a refusal, or its p99 is more than `MOST_TIMES` that of the victim alone.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.measure import say
from tests.support.local import Local, environment, running

ALONE_SECONDS = 10.0
POST_EVERY = 25
"""The victim creates a job with each of so many requests; the others ask for a status."""
PAUSE_SECONDS = 0.01
AGAIN_SECONDS = 10.0
MOST_TIMES = 3.0
RAW = {"Content-Type": "text/plain"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where the attacker attacks, and what of theirs there is."""

    front: str
    bearer: str
    waiting_job: str
    output: str
    batches: Sequence[str]
    signed_urls: Sequence[str]


@dataclass
class Seen:
    """What the victim saw."""

    alone: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def slower(self) -> float:
        """The p99 beside the attacker, as a multiple of that alone."""
        return p99(self.attacked) / p99(self.alone)


def p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


async def held(url: str, head: str, bearer: str, body: bytes = b"", *, drip: bool = False, read: bool = True) -> None:
    """One connection with this request, until the server ends it. `drip`: a byte each second follows. Without `read`
    nothing of the response is taken.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
    fields = f"Host: {parts.netloc}\r\n" + (f"Authorization: Bearer {bearer}\r\n" if bearer else "")
    try:
        writer.write(f"{head}\r\n{fields}\r\n".encode() + body)
        await writer.drain()
        while drip and not reader.at_eof():
            await asyncio.sleep(1)
            writer.write(b"A")
            await writer.drain()
        if not read:
            await asyncio.Event().wait()
        while await reader.read(1024):
            pass
    finally:
        writer.close()


async def again(attack: Callable[[], Awaitable[None]]) -> None:
    """As often as it is ended."""
    while True:
        with suppress(OSError):
            await attack()
        await asyncio.sleep(AGAIN_SECONDS)


def attacks(target: Target) -> list[Callable[[], Awaitable[None]]]:
    front, bearer = target.front, target.bearer
    wait = f"GET /api/v1/job/{target.waiting_job}/status HTTP/1.1\r\nPrefer: wait=60"
    upload = "POST /api/v1/job?processor=checksum HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 1000000"
    inline = "POST /api/v1/job HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 11000000"

    async def closed_at_once() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await held(front, wait, bearer)

    async def slow_upload() -> None:
        await held(front, upload, bearer, b"A", drip=True)

    async def slow_json() -> None:
        await held(front, inline, bearer, b'{"content": "' + b"A" * 100_000, drip=True)

    async def slow_reader() -> None:
        await held(front, f"GET {target.output} HTTP/1.1", bearer, read=False)

    def stream(batch: str) -> Callable[[], Awaitable[None]]:
        return lambda: held(front, f"GET /api/v1/batch/{batch}/events HTTP/1.1", bearer)

    def put(url: str) -> Callable[[], Awaitable[None]]:
        head = f"PUT {urlsplit(url).path} HTTP/1.1\r\nContent-Length: 1000"
        return lambda: held(url, head, "", b"A", drip=True)

    return [
        *[closed_at_once] * 2050,
        *[slow_upload] * 220,
        *[slow_json] * 12,
        *[slow_reader] * 155,
        *[stream(batch) for batch in target.batches for _ in range(2)],
        *[put(url) for url in target.signed_urls],
    ]


async def attack(target: Target) -> None:
    await asyncio.gather(*map(again, attacks(target)))


async def prepared(local: Local) -> Target:
    """The attacker's jobs: batches that never come, and a large output."""
    async with local.client("greedy", "mallory") as http:
        file = {"name": "a", "size": 1000, "mimetype": "text/plain"}
        batches, urls, waiting = [], [], ""
        for _ in range(40):
            made = await http.post("/api/v1/batch", json={"processor": "checksum", "files": [file] * 1000})
            if made.status_code != 201:
                break  # it may have no more
            batch = made.json()
            batches.append(batch["id"])
            waiting = batch["items"][0]["id"]
            urls += [item["upload"]["url"] for item in batch["items"]]
        noise = bytes(range(256)) * 4 * 8192
        created = await http.post(
            "/api/v1/job?processor=compress&format=gzip&level=1", content=noise, headers={**RAW, "Prefer": "wait=60"}
        )
        created.raise_for_status()
        job_id = created.json()["id"]
        bearer = http.headers["Authorization"].removeprefix("Bearer ")
        return Target(local.url, bearer, waiting, f"/api/v1/job/{job_id}/output", batches, urls[:2050])


@asynccontextmanager
async def attacked(folder: Path, target: Target) -> AsyncIterator[None]:
    """The attacks go on, in a process of their own."""
    file = folder / "target.json"
    fields = {name: getattr(target, name) for name in Target.__slots__}
    file.write_text(json.dumps(fields))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.soak.neighbours", "--attack", str(file))
    try:
        yield
        assert process.returncode is None, "the attacker ended"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def live(http: httpx.AsyncClient, job_id: str, seconds: float, seen: Seen, times: list[float]) -> None:
    """What the victim does, one request after the other."""
    ends, requests = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        requests += 1
        began = time.monotonic()
        answer = await http.get(f"/api/v1/job/{job_id}/status")
        times.append(time.monotonic() - began)
        seen.statuses[answer.status_code] += 1
        if requests % POST_EVERY == 0:
            created = await http.post("/api/v1/job?processor=checksum", content=b"some", headers=RAW)
            seen.statuses[created.status_code] += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def soak(folder: Path, seconds: float) -> Seen:
    """What the victim saw, alone and then for `seconds` beside the attacker."""
    seen = Seen()
    async with running(environment(folder / "data")) as local, local.client("victim", "carol") as http:
        created = await http.post(
            "/api/v1/job?processor=checksum", content=b"some", headers={**RAW, "Prefer": "wait=60"}
        )
        job_id = created.json()["id"]
        await live(http, job_id, ALONE_SECONDS, seen, seen.alone)
        target = await prepared(local)
        async with attacked(folder, target):
            await live(http, job_id, seconds, seen, seen.attacked)
    return seen


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the attacks go on (default 60)")
    parser.add_argument("--attack", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        await attack(Target(**json.loads(arguments.attack.read_text())))
        return 0
    with tempfile.TemporaryDirectory(prefix="gristmill-neighbours-") as folder:
        seen = await soak(Path(folder), arguments.seconds)
    for name, times in (("Alone", seen.alone), ("Attacked", seen.attacked)):
        say(f"{name}: {len(times)} requests, p99 {p99(times) * 1000:.1f} ms.")
    say(f"{seen.slower:.1f} times as slow.")
    say(f"Statuses: {dict(seen.statuses)}")
    return int(seen.slower > MOST_TIMES or any(status >= 400 for status in seen.statuses))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
