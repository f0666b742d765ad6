"""What the loads of taskiq and Celery share; the results of each are all that is in its Redis database."""
# Its packages are in the peers' virtualenv alone.
# mypy: disable-error-code="import-not-found, untyped-decorator"

import json
import os
import time

import redis

BROKER_URL = os.environ.get("BENCH_BROKER_URL", "redis://127.0.0.1:6379/0")
RESULT_URL = os.environ.get("BENCH_RESULT_URL", "redis://127.0.0.1:6379/1")
POLL_SECONDS = 0.002
LIMIT_SECONDS = 300


def empty() -> redis.Redis:
    """A connection to the results, of which there are none yet."""
    results = redis.Redis.from_url(RESULT_URL)
    results.flushdb()
    return results


def wait_for(results: redis.Redis, count: int) -> float:
    """The moment when so many results were there."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while results.dbsize() < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{results.dbsize()} of {count} results within {LIMIT_SECONDS} s.")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


def say(started: float, submitted: float, ended: float, count: int, taken: list[float]) -> None:
    taken.sort()
    print(
        json.dumps(
            {
                "submits": count / (submitted - started),
                "rate": count / (ended - started),
                "p50": taken[len(taken) // 2] * 1e3,
                "p99": taken[len(taken) * 99 // 100] * 1e3,
            }
        )
    )
