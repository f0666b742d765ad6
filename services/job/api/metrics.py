"""`GET /metrics`: what a Prometheus reads, and an autoscaler goes by."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from common.contracts.job import RunStatus
from common.failures import FAILURES
from common.metrics import REGISTRY, RUN_SECONDS
from common.web.access import public
from services.job.ports import Depth, QueueDepths

FRESH_SECONDS = 3.0
GAUGES: list[tuple[str, str, Callable[[Depth], float]]] = [
    ("gristmill_queue_depth", "Runs that are queued, about.", lambda depth: depth.queued),
    (
        "gristmill_queue_oldest_age_seconds",
        "How long the oldest queued run has been due.",
        lambda depth: depth.oldest_age_seconds,
    ),
    ("gristmill_runs_running", "Runs that processors hold.", lambda depth: depth.running),
]


class _Gauges(Collector):
    def __init__(self, depths: Sequence[Depth]) -> None:
        self._depths = depths

    def collect(self) -> Iterable[Metric]:
        for name, text, value in GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["processor"])
            for depth in self._depths:
                gauge.add_metric([depth.processor], value(depth))
            yield gauge


def count_ended(run: RunStatus) -> None:
    """Add a run that has ended to the durations, when it was worked on."""
    if run.started_at is None or run.ended_at is None or run.processor is None:
        return
    outcome = run.status.value.lower() if run.error is None else run.error.type
    known = run.error is None or outcome in FAILURES
    seconds = (run.ended_at - run.started_at).total_seconds()
    RUN_SECONDS.series(run.processor, outcome if known else "other").observe(seconds)


def router(
    depths: QueueDepths, live: Callable[[], Awaitable[Collection[str]]], now: Callable[[], float] = time.monotonic
) -> APIRouter:
    """Needs no token, like the routes of health: it has only numbers and the names of processors.

    The label is what runs want: a name, pinned or not. The numbers are those of the whole queue, whichever process is
    asked, and some seconds old at the most; what follows them is this process's own.
    """
    routes = APIRouter(tags=["metrics"], dependencies=[Depends(public)])
    asking = asyncio.Lock()
    known: tuple[float, bytes] | None = None

    @routes.get(
        "/metrics", summary="How much waits and runs, and what the process has counted and timed, for Prometheus"
    )
    async def metrics() -> Response:
        nonlocal known
        async with asking:
            if known is None or known[0] + FRESH_SECONDS <= now():
                known = now(), generate_latest(_Gauges(await depths.depths(await live())))
        return Response(known[1] + generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return routes
