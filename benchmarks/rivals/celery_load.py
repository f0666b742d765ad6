"""Celery: a task that does nothing, and `python celery_load.py COUNT SUBMITTERS IDLE`."""
# Its packages are in the peers' virtualenv alone.
# mypy: disable-error-code="import-not-found, untyped-decorator"

import sys
import time

import redis_wait
from celery import Celery

app = Celery("celery_load", broker=redis_wait.BROKER_URL, backend=redis_wait.RESULT_URL)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="nothing")
def nothing() -> None:
    pass


def main(count: int, idle: int) -> None:
    results = redis_wait.empty()
    nothing.delay().get()  # connects
    started = time.monotonic()
    # Celery's client is synchronous, and threads make it slower: one submitter is its best.
    for _ in range(count):
        nothing.apply_async()
    submitted = time.monotonic()
    ended = redis_wait.wait_for(results, count + 1)
    taken = []
    for _ in range(idle):
        before = time.monotonic()
        nothing.delay().get(interval=0.0005)
        taken.append(time.monotonic() - before)
    redis_wait.say(started, submitted, ended, count, taken)


if __name__ == "__main__":
    count_, _submitters, idle_ = map(int, sys.argv[1:])
    main(count_, idle_)
