"""taskiq: a task that does nothing, and `python taskiq_load.py COUNT SUBMITTERS IDLE`."""
# Its packages are in the peers' virtualenv alone.
# mypy: disable-error-code="import-not-found, untyped-decorator"

import asyncio
import sys
import time

import redis_wait
import uvloop
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

# The list is the fastest of its brokers: it doesn't acknowledge, so a worker that dies loses what it had.
# Without a timeout of its own, its long wait for a task would meet the one that redis-py has by default.
broker = ListQueueBroker(redis_wait.BROKER_URL, socket_timeout=None).with_result_backend(
    RedisAsyncResultBackend(redis_wait.RESULT_URL)
)


@broker.task(task_name="nothing")
async def nothing() -> None:
    pass


async def main(count: int, submitters: int, idle: int) -> None:
    results = redis_wait.empty()
    await broker.startup()
    left = iter(range(count))

    async def submit_some() -> None:
        for _ in left:
            await nothing.kiq()

    started = time.monotonic()
    await asyncio.gather(*(submit_some() for _ in range(submitters)))
    submitted = time.monotonic()
    ended = await asyncio.to_thread(redis_wait.wait_for, results, count)
    taken = []
    for _ in range(idle):
        before = time.monotonic()
        await (await nothing.kiq()).wait_result(check_interval=0.0005, timeout=10)
        taken.append(time.monotonic() - before)
    await broker.shutdown()
    redis_wait.say(started, submitted, ended, count, taken)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
