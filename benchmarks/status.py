"""Status of a final job: front, a bare ASGI hello, and a plain FastAPI route, one process each."""

import asyncio
import sys
from functools import partial
from pathlib import Path

from benchmarks.load import CONNECTIONS, find_wrk, get_load
from benchmarks.measure import Effort, Goal, Section, alternate, say
from benchmarks.system import System, answers, system
from common.ids import new_id
from common.mongo.client import opened
from deploy.local import mongod
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.domain.job import NewJob, Output, Owner, Transition

JOBS = 1_000
SECONDS = 8
SUBJECT = "alice"
FRONT, HELLO, PLAIN = "Gristmill: front", "bare ASGI hello", "plain FastAPI, PyJWT, `find_one`"


async def run(effort: Effort, folder: Path) -> Section:
    section = Section(
        "status",
        "Status of a final job",
        f"{CONNECTIONS} keep-alive connections ask for the status of {JOBS:,} final jobs in turn, "
        f"{effort.of(SECONDS)} s a round. Each side is one process with the same uvicorn settings; "
        "the two that read use one mongod, with majority read concern, and HS256 tokens, which are the cheapest "
        "to verify. Load: wrk with one thread. "
        "The client and mongod share the machine's cores with the side that is measured.",
        {"rps": "requests/s", "p50": "p50, ms", "p99": "p99, ms"},
    )
    async with system(folder, ["front"]) as up:
        paths = [f"/api/v1/job/{job_id}/status" for job_id in await _make_jobs(up)]
        plain = await _start(up, "plain", up.mongodb_uri, str(up.keys.users_secret))
        hello = await _start(up, "hello")
        seconds = effort.of(SECONDS)
        sides = {
            side: partial(get_load, url, paths, up.token(SUBJECT), seconds, folder)
            for side, url in {FRONT: up.front_url, HELLO: hello, PLAIN: plain}.items()
        }
        section.results = await alternate(sides, effort)
    if await asyncio.to_thread(find_wrk) is None:
        section.notes.append("Without wrk the load came from a client in Python, which was the slowest: no ratios.")
        return section
    rate = {side: result.median("rps") for side, result in section.results.items()}
    section.goals = [
        Goal("requests/s, against a bare hello", rate[FRONT] / rate[HELLO], 0.5),
        Goal("requests/s, against plain FastAPI", rate[FRONT] / rate[PLAIN], 4),
    ]
    return section


async def _start(up: System, name: str, *arguments: str) -> str:
    port = mongod.free_port()
    await up.start(name, sys.executable, "-m", f"benchmarks.rivals.{name}", str(port), *arguments)
    url = f"http://127.0.0.1:{port}"
    await answers(f"{url}/openapi.json")  # hello answers everything
    return url


async def _make_jobs(up: System) -> list[str]:
    """Jobs that have come to their end, with four outputs each, as front itself writes them."""
    say(f"  Writing {JOBS} jobs ...")
    owner = Owner("bench", SUBJECT)
    sizes = ("320", "800", "1600", "original")
    outputs = tuple(Output(f"photo-{size}.webp", "image/webp", 123_456, "0" * 64) for size in sizes)
    ids = [new_id() for _ in range(JOBS)]
    async with opened(up.mongodb_uri) as client:
        store = MongoJobStore(client, "front")
        for job_id in ids:
            job = NewJob(job_id, owner, "photo.jpg", "image/jpeg", 5_000_000, "image-variants", {}, "0" * 64)
            await store.insert_stored(job, 60)
            await store.apply(job_id, Transition.submitted(), 60)
            await store.apply(job_id, Transition.completed(1, 1, outputs))
    return ids
