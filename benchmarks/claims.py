"""How long a claim takes, by how much is queued: the runs of 1,000 tenants, written straight into MongoDB."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from benchmarks.measure import Effort, Goal, Measure, Sample, Section, alternate, percentile, say
from benchmarks.submitter import new_run
from benchmarks.system import system
from common.ids import new_id
from common.mongo.client import Client, Document, opened
from services.job.adapters.mongodb.database import JobDatabase
from services.job.domain.fairness import flow_key

TENANTS = 1_000
FEW, MANY, MOST = 1_000, 50_000, 1_000_000
CLAIMS = 300
BATCHES = (1, 16)
PROCESSOR = "nothing"
LEASE_SECONDS = 300
WRITTEN_AT_ONCE = 1_000


async def run(effort: Effort, folder: Path) -> Section:
    return await _section("claims", (FEW, MANY), effort, folder)


async def run_scale(effort: Effort, folder: Path) -> Section:
    """The same with a million runs, which takes minutes to write."""
    section = await _section("claims-scale", (FEW, effort.of(MOST)), effort, folder)
    few, most = section.results.values()
    for batch in BATCHES:
        ratio = most.median(f"p99_{batch}") / few.median(f"p99_{batch}")
        section.goals.append(Goal(f"p99 of a claim of up to {batch}, against {FEW:,} queued", ratio, 2, at_most=True))
    return section


async def _section(name: str, sizes: tuple[int, ...], effort: Effort, folder: Path) -> Section:
    claims = effort.of(CLAIMS)
    section = Section(
        name,
        f"Claims with {sizes[-1]:,} queued runs",
        f"The queue alone, in one process; the runs are of {TENANTS:,} tenants in equal parts. {claims} claims a round "
        "of one run each, then as many of up to 16, one after another; what one took is given back before the next.",
        {
            f"{figure}_{batch}": f"{figure} of up to {batch}, ms" if batch > 1 else f"{figure} of 1, ms"
            for batch in BATCHES
            for figure in ("p50", "p99")
        },
    )
    async with system(folder, []) as up, opened(up.mongodb_uri) as client:
        sides: dict[str, Measure] = {}
        for size in sizes:
            sides[f"{size:,} queued"] = partial(_round, await _filled(client, size), claims)
        section.results = await alternate(sides, effort)
    return section


async def _filled(client: Client, size: int) -> JobDatabase:
    name = f"claims-{size}"
    database = JobDatabase(client, name)
    await database.create_indexes()
    raw = client.get_database(name, read_concern=ReadConcern("local"), write_concern=WriteConcern(w=1))
    run = new_run(PROCESSOR)
    await database.runs.submit(run)
    await database.runs.queued_count(run.tenant)  # which waits until its flow has been written
    template: Document = await raw["runs"].find_one({"_id": run.id}) or {}
    await raw["runs"].delete_one({"_id": run.id})
    flow: Document = await raw["flows"].find_one({"_id": template["flow"]}) or {}
    await raw["flows"].delete_one({"_id": flow["_id"]})
    await _write_runs(raw, template, size)
    queued = size // TENANTS
    await raw["flows"].insert_many(
        {**flow, "_id": flow_key(PROCESSOR, tenant), "tenant": tenant, "queued": queued}
        for tenant in map(_tenant, range(TENANTS))
    )
    return database


async def _write_runs(raw: AsyncDatabase[Document], template: Mapping[str, Any], size: int) -> None:
    started = time.monotonic()
    for written in range(0, size, WRITTEN_AT_ONCE):
        tenants = (_tenant(n % TENANTS) for n in range(written, min(written + WRITTEN_AT_ONCE, size)))
        await raw["runs"].insert_many(
            ({**template, "_id": new_id(), "tenant": each, "flow": flow_key(PROCESSOR, each)} for each in tenants),
            ordered=False,
        )
        done = written + WRITTEN_AT_ONCE
        if done % 50_000 == 0 or done >= size:
            say(f"  {min(done, size):,} of {size:,} runs written, {time.monotonic() - started:.0f} s")


def _tenant(number: int) -> str:
    return f"tenant-{number:04}"


async def _round(database: JobDatabase, claims: int) -> Sample:
    sample: dict[str, float] = {}
    for batch in BATCHES:
        taken = []
        for _ in range(claims):
            before = time.monotonic()
            claimed = await database.runs.claim(new_id(), [PROCESSOR], batch, LEASE_SECONDS)
            taken.append(time.monotonic() - before)
            if len(claimed) != batch:
                raise RuntimeError(f"A claim of {batch} runs got {len(claimed)} of a full queue.")
            await asyncio.gather(*(database.runs.release(each.run.id, each.fence) for each in claimed))
        sample |= {f"p{percent}_{batch}": percentile(taken, percent) * 1e3 for percent in (50, 99)}
    return sample
