"""A store of runs on the bench, and what its tests need over and over.

The fake's clock is moved; MongoDB's goes by itself, so leases here are short and conditions are awaited.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from common.contracts.job import InputRef, OutputInfo, RunError, RunStatus, RunSubmit
from common.errors import StaleFence
from common.ids import new_id
from services.job.domain.rules import RetryPolicy
from services.job.ports import Claimed, RunStore
from tests.fakes.run_store import FakeRunStore

SHORT = 0.15
SOON = 3.0
"""Not before what is done at once has been done, and soon enough to wait for."""
LONG = 30.0
AT_ONCE = RetryPolicy(max_attempts=3, backoff_seconds=0)
OURS = RunError(type="internal", detail="It broke.")
OUTPUT = OutputInfo(name="a.webp", mimetype="image/webp", size=3, sha256="0" * 64)
DEADLINE_SECONDS = 20

Result = TypeVar("Result")


class Bench:
    """A store, and the passing of its time."""

    def __init__(self, store: RunStore) -> None:
        self.store = store

    async def until(self, happened: Callable[[], Awaitable[Result]]) -> Result:
        """Lets time pass until it has happened; returns what it then gave."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (result := await happened()):
                if isinstance(self.store, FakeRunStore):
                    self.store.now += SHORT
                else:
                    await asyncio.sleep(0.02)
        return result

    async def submitted(self, **changes: Any) -> RunSubmit:
        run = a_run(**changes)
        assert (await self.store.submit(run)).created
        return run

    async def claimed(self, start_seconds: float = LONG, **changes: Any) -> Claimed:
        run = await self.submitted(**changes)
        return await self.claim_one(run, start_seconds)

    async def claim_one(self, run: RunSubmit, start_seconds: float = LONG) -> Claimed:
        (claimed,) = await self.until(lambda: self.store.claim(new_id(), [run.processor], 1, start_seconds))
        assert claimed.run == run.model_copy(update={"deadline_seconds": claimed.run.deadline_seconds})
        return claimed

    async def started(self, lease_seconds: float = LONG) -> Claimed:
        claimed = await self.claimed(processor=f"p{new_id()}")
        await self.beat(claimed, lease_seconds)
        return claimed

    async def beat(self, claimed: Claimed, lease_seconds: float = LONG) -> None:
        await self.store.heartbeat(claimed.run.id, claimed.fence, lease_seconds, started=True)

    async def status(self, run_id: str) -> RunStatus:
        (status,) = await self.store.statuses([run_id])
        return status

    async def nothing_to_claim(self, processor: str) -> bool:
        """Says so; what there was is put back."""
        claims = await self.store.claim(new_id(), [processor], 1, LONG)
        for claimed in claims:
            await self.store.release(claimed.run.id, claimed.fence)
        return not claims

    async def refuses_all(self, claimed: Claimed) -> None:
        """Nothing that carries this claim's fence is heard, and nothing changes."""
        before = await self.status(claimed.run.id)
        run_id, fence = claimed.run.id, claimed.fence
        for late in (
            self.store.heartbeat(run_id, fence, LONG, started=True, phase="late"),
            self.store.complete(run_id, fence, [OUTPUT]),
            self.store.fail(run_id, fence, OURS, AT_ONCE),
            self.store.release(run_id, fence),
        ):
            with pytest.raises(StaleFence):
                await late
        assert await self.status(run_id) == before


def a_run(processor: str = "checksum", params: dict[str, Any] | None = None, **changes: Any) -> RunSubmit:
    run_id = new_id()
    picture = InputRef(blob_id=f"i-{run_id}", name="$name", mimetype="image/png", size=1, sha256="0" * 64)
    fields = {"id": run_id, "inputs": [picture], "processor": processor, "params": params or {}, "tenant": "acme"}
    return RunSubmit.model_validate({**fields, **changes})
