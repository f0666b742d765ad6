"""A run that does nothing, from its submit to its end: job, and taskiq and Celery over Redis."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.measure import Effort, Goal, Measure, Section, alternate, measured_by
from benchmarks.peers import MissingPeerError
from benchmarks.queues import CELERY, TASKIQ, rival_queues, versions
from benchmarks.submitter import Submitter, listening
from benchmarks.system import system
from common.auth import ServiceTokenSigner
from deploy.local import mongod

RUNS = 2_000
IDLE_RUNS = 200
SUBMITTERS = 64
JOB, BEATS = "Gristmill: job", "the same, each run `started`"
ALONE = "job's queue alone, in one process"
SLOTS = "the same, 16 slots that claim one run each"
# A claimer for each side, told apart by what it takes, so that one job process can serve them all.
CLAIMERS = {
    JOB: ("nothing", []),
    BEATS: ("nothing-started", ["--beats"]),
    SLOTS: ("nothing-slots", ["--loops", "16", "--batch", "1"]),
}


async def run(effort: Effort, folder: Path) -> Section:
    runs, idle = effort.of(RUNS), effort.of(IDLE_RUNS)
    section = Section(
        "round-trip",
        "A run that does nothing, from submit to done",
        f"{runs:,} runs a round, by {SUBMITTERS} submitters at once and one worker process; then {idle} single ones, "
        "each after the last has ended. job: one process over its HTTP API, MongoDB with majority and journal, fences "
        "and leases by the server's clock; a claimer with 4 long polls of up to 16 runs each, whose complete carries "
        "the next claim, or 16 slots of one run each, as the processor has them; done is when job has told front. The "
        "queue alone: no HTTP, no tokens, no reports. taskiq (list broker) and Celery (prefork, 1 process): Redis "
        "with its default settings, which don't wait for the disk; done is when Redis has the result.",
        {"rate": "runs/s", "submits": "submits/s", "p50": "p50 of one, ms", "p99": "p99 of one, ms"},
    )
    async with AsyncExitStack() as stack:
        submitter, uri = await stack.enter_async_context(_job(folder / "job"))
        sides: dict[str, Measure] = {
            side: partial(submitter.round, processor, runs, SUBMITTERS, idle)
            for side, (processor, _) in CLAIMERS.items()
        }
        numbers = map(str, (runs, SUBMITTERS, idle))
        sides[ALONE] = partial(measured_by, sys.executable, "-m", "benchmarks.queue_alone", uri, *numbers)
        try:
            queues = await stack.enter_async_context(rival_queues(folder))
            sides |= {name: partial(queue.round, runs, SUBMITTERS, idle) for name, queue in queues.items()}
            section.versions = await versions()
        except MissingPeerError as missing:
            section.notes.append(f"Without taskiq and Celery: {missing}")
        section.results = await alternate(sides, effort)
    _compare(section)
    return section


def _compare(section: Section) -> None:
    found = section.results
    for peer, bound in ((TASKIQ, 1), (CELERY, 3)):
        for side in CLAIMERS:
            if peer in found:
                ratio = found[side].median("rate") / found[peer].median("rate")
                section.goals.append(Goal(f"runs/s, {side}, against {peer}", ratio, bound))
    if CELERY in found:
        ratio = found[JOB].median("p50") / found[CELERY].median("p50")
        section.goals.append(Goal(f"p50 of one, {JOB}, against {CELERY}", ratio, 2, at_most=True))


@asynccontextmanager
async def _job(data: Path) -> AsyncIterator[tuple[Submitter, str]]:
    """One job process and a claimer for each side; front is the submitter. Also says where its MongoDB is."""
    port = mongod.free_port()
    async with system(data, ["job"], JOB_FRONT_URL=f"http://127.0.0.1:{port}") as up:
        key = str(up.keys.private("processor"))
        for processor, flags in CLAIMERS.values():
            command = [sys.executable, "-m", "benchmarks.claimer", up.job_url, key, processor, *flags]
            await up.start(processor, *command)
        # Kept for less long than job keeps them, which closes what is idle while another side is measured.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
        async with aiohttp.ClientSession(up.job_url, connector=connector) as http:
            submitter = Submitter(http, ServiceTokenSigner.from_file("front", up.keys.private("front")))
            async with listening(submitter, port):
                yield submitter, up.mongodb_uri
