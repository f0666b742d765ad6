"""job's queue without HTTP, tokens and reports: what MongoDB, fences and majority leave.

`python -m benchmarks.queue_alone MONGODB_URI COUNT SUBMITTERS IDLE` prints one line of figures.
"""

import asyncio
import json
import sys
import time

from benchmarks.measure import percentile
from benchmarks.submitter import new_run
from common.contracts.job import ClaimedRun, ClaimRequest, Complete
from common.ids import new_id
from common.mongo.client import opened
from common.web.serve import new_loop
from services.job.adapters.mongodb.database import JobDatabase
from services.job.domain.rules import RetryPolicy
from services.job.use_cases.queue import Leases, Queue

PROCESSOR = "nothing-alone"
LOOPS, BATCH = 4, 16


async def main(mongodb_uri: str, count: int, submitters: int, idle: int) -> None:
    async with opened(mongodb_uri) as client:
        database = JobDatabase(client, "alone")
        await database.create_indexes()
        ended: asyncio.Queue[float] = asyncio.Queue()
        queue = Queue(
            database.runs, Leases(5, 30), RetryPolicy(3, 2), on_end=lambda _: ended.put_nowait(time.monotonic())
        )
        claimers = [asyncio.create_task(_claim(queue)) for _ in range(LOOPS)]
        runs = [new_run(PROCESSOR) for _ in range(count)]
        left = iter(runs)

        async def submit_some() -> None:
            for run in left:
                await queue.submit(run)

        started = time.monotonic()
        await asyncio.gather(*(submit_some() for _ in range(submitters)))
        submitted = time.monotonic()
        last = max([await ended.get() for _ in range(count)])
        taken = []
        for _ in range(idle):
            before = time.monotonic()
            await queue.submit(new_run(PROCESSOR))
            taken.append(await ended.get() - before)
        for claimer in claimers:
            claimer.cancel()
        await asyncio.wait(claimers)
    print(
        json.dumps(
            {
                "submits": count / (submitted - started),
                "rate": count / (last - started),
                "p50": percentile(taken, 50) * 1e3,
                "p99": percentile(taken, 99) * 1e3,
            }
        )
    )


async def _claim(queue: Queue) -> None:
    runs: list[ClaimedRun] = []
    while True:
        if not runs:
            runs = await queue.claim(_request(20))
            continue
        *others, last = runs
        await asyncio.gather(*(queue.complete(run.id, Complete(fence=run.fence, outputs=[])) for run in others))
        runs = await queue.complete(last.id, Complete(fence=last.fence, outputs=[], claim=_request(0)))


def _request(wait_seconds: float) -> ClaimRequest:
    return ClaimRequest(claim_id=new_id(), processors=[PROCESSOR], max=BATCH, wait_seconds=wait_seconds, first=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(sys.argv[1], *map(int, sys.argv[2:])))
