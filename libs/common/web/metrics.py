"""`/metrics`: what the process has counted and timed."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from common.metrics import REGISTRY
from common.web.access import public


def router() -> APIRouter:
    """Needs no token, like the routes of health: it has only numbers and our own names."""
    routes = APIRouter(tags=["metrics"], dependencies=[Depends(public)])

    @routes.get("/metrics", summary="What the process has counted and timed, for Prometheus")
    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return routes
