"""`GET /metrics`: what a Prometheus reads, and an autoscaler goes by."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from common.web.access import public
from services.job.ports import Depth, QueueDepths

FRESH_SECONDS = 3.0
GAUGES: list[tuple[str, str, Callable[[Depth], float]]] = [
    ("gristmill_queue_depth", "Runs that are queued, about.", lambda depth: depth.queued),
    (
        "gristmill_queue_oldest_age_seconds",
        "How long the oldest queued run is due.",
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


def router(depths: QueueDepths, now: Callable[[], float] = time.monotonic) -> APIRouter:
    """Like the routes of health it takes no token, because it tells numbers and names of processors alone.

    The label is what runs want: a name, pinned or not. The numbers are those of the whole queue, whichever process is
    asked, and some seconds old at the most.
    """
    routes = APIRouter(tags=["metrics"], dependencies=[Depends(public)])
    asking = asyncio.Lock()
    known: tuple[float, bytes] | None = None

    @routes.get("/metrics", summary="How much waits and runs, for Prometheus")
    async def metrics() -> Response:
        nonlocal known
        async with asking:
            if known is None or known[0] + FRESH_SECONDS <= now():
                known = now(), generate_latest(_Gauges(await depths.depths()))
        return Response(known[1], media_type=CONTENT_TYPE_LATEST)

    return routes
