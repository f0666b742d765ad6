"""`/livez`: the process runs. `/readyz`: it can do its work now."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

from common.errors import Unavailable
from common.logging import get_logger
from common.web.access import public
from common.web.serve import Readiness

CHECK_SECONDS = 2

log = get_logger()


class Health(BaseModel):
    """The process is well."""

    status: Literal["ok"] = "ok"


def install(app: FastAPI, readiness: Readiness, check: Callable[[], Awaitable[object]]) -> None:
    """Add both routes; `check` raises when a part that every request needs is away."""
    router = APIRouter(tags=["health"], dependencies=[Depends(public)])

    @router.get("/livez", summary="Whether the process runs")
    async def livez() -> Health:
        """Doesn't check the parts behind it: a restart mends none of those."""
        return Health()

    @router.get("/readyz", summary="Whether the process can take requests", responses={503: {}})
    async def readyz() -> Health:
        """503 while a part is away that every request needs, and while the process stops."""
        if readiness.draining:
            raise Unavailable("The process is stopping.")
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception as error:
            log.warning("readyz.failed", error=type(error).__name__)
            raise Unavailable("A part that every request needs is away.") from error
        return Health()

    app.include_router(router)
