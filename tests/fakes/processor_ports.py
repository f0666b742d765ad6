"""job and blob as a processor sees them, in memory and made to fail on demand."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from common.contracts.blob import BlobInfo
from common.contracts.job import ClaimedRun, ClaimRequest, Complete, Fail, Heartbeat, InputRef, Release
from common.errors import AlreadyExists, NotFound, Problem, StaleFence
from common.ids import input_blob_id, new_id
from gristmill.wire.processors import ProcessorOffer


@dataclass(frozen=True)
class FakeBody:
    chunks: AsyncIterator[bytes]


class FakeBlobs:
    """Write-once blobs. `errors[call]` are raised, one a call; `flip` spoils the next read."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.errors: dict[str, deque[Problem]] = {"open": deque(), "put": deque()}
        self.flip = False

    @asynccontextmanager
    async def open(self, blob_id: str) -> AsyncIterator[FakeBody]:
        self._maybe_fail("open")
        if blob_id not in self.blobs:
            raise NotFound
        content = self.blobs[blob_id]
        if self.flip:
            self.flip = False
            content = bytes([content[0] ^ 1]) + content[1:]
        yield FakeBody(_chunks(content))

    async def put(
        self, blob_id: str, body: bytes | AsyncIterator[bytes], *, size: int | None = None, sha256: str | None = None
    ) -> BlobInfo:
        self._maybe_fail("put")
        content = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
        assert size == len(content)
        assert sha256 == hashlib.sha256(content).hexdigest()
        if self.blobs.setdefault(blob_id, content) != content:
            raise AlreadyExists
        return BlobInfo(id=blob_id, size=size, sha256=sha256)

    def _maybe_fail(self, call: str) -> None:
        if self.errors[call]:
            raise self.errors[call].popleft()


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    step = max(3, len(content) // 100)
    for start in range(0, len(content), step):
        yield content[start : start + step]


class FakeRuns:
    """One queue, of runs for one processor. Fences that are no longer valid are those that a test took from `fences`.

    `lose[call]` answers of that call never arrive, though job did what it was asked; `errors[call]` are raised instead
    of doing it.
    """

    def __init__(self, blob: FakeBlobs, processor: str = "scripted") -> None:
        self._blob = blob
        self._processor = processor
        self.queue: asyncio.Queue[ClaimedRun] = asyncio.Queue()
        self.fences: dict[str, int] = {}
        self.claims: dict[str, list[ClaimedRun]] = {}
        self.offers: list[Sequence[ProcessorOffer]] = []
        self.beats: list[tuple[str, Heartbeat]] = []
        self.reports: asyncio.Queue[tuple[str, Complete | Fail | Release]] = asyncio.Queue()
        self.completed: dict[str, Complete] = {}
        self.lose: dict[str, deque[Problem]] = {}
        self.errors: dict[str, deque[Problem]] = {}
        self.calls: list[str] = []
        self.wanted: list[str] = []
        self._called = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once the condition holds; it is looked at after each call."""
        while not condition():
            self._called.clear()
            await self._called.wait()

    def submit(
        self,
        content: bytes = b"some input",
        lease_seconds: float = 30,
        name: str = "photo.txt",
        *,
        alone: bool = False,
        **params: Any,
    ) -> ClaimedRun:
        run_id = new_id()
        source = InputRef(
            blob_id=input_blob_id(run_id),
            name=name,
            mimetype="text/plain",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self._blob.blobs[source.blob_id] = content
        run = ClaimedRun(
            id=run_id,
            fence=1,
            lease_seconds=lease_seconds,
            inputs=[source],
            processor=self._processor,
            params=params,
            alone=alone,
        )
        self.fences[run_id] = run.fence
        self.queue.put_nowait(run)
        return run

    async def offer(self, offers: Sequence[ProcessorOffer]) -> None:
        self._enter("offer")
        self.offers.append(offers)

    async def claim(self, request: ClaimRequest) -> list[ClaimedRun]:
        self._enter("claim")
        self.wanted = request.processors
        if request.first or request.claim_id not in self.claims:
            try:
                async with asyncio.timeout(request.wait_seconds or 0.001):
                    self.claims[request.claim_id] = [await self.queue.get()]
            except TimeoutError:
                self.claims[request.claim_id] = []
            while not self.queue.empty() and len(self.claims[request.claim_id]) < request.max:
                self.claims[request.claim_id].append(self.queue.get_nowait())
        return self._leave("claim", self.claims[request.claim_id])

    async def heartbeat(self, run_id: str, beat: Heartbeat) -> None:
        self._enter("heartbeat")
        self._check(run_id, beat.fence)
        self.beats.append((run_id, beat))

    async def complete(self, run_id: str, completion: Complete) -> list[ClaimedRun]:
        self._enter("complete")
        ends = self.completed.get(run_id) != completion
        if ends:
            self._check(run_id, completion.fence)
            self.completed[run_id] = completion
            del self.fences[run_id]
            self.reports.put_nowait((run_id, completion))
        claim = completion.claim
        runs = await self.claim(claim.model_copy(update={"first": claim.first and ends})) if claim else []
        return self._leave("complete", runs)

    async def fail(self, run_id: str, failure: Fail) -> None:
        self._enter("fail")
        self._check(run_id, failure.fence)
        self.reports.put_nowait((run_id, failure))

    async def release(self, run_id: str, release: Release) -> None:
        self._enter("release")
        self._check(run_id, release.fence)
        self.reports.put_nowait((run_id, release))

    def _check(self, run_id: str, fence: int) -> None:
        if self.fences.get(run_id) != fence:
            raise StaleFence

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        self._called.set()
        if self.errors.get(call):
            raise self.errors[call].popleft()

    def _leave(self, call: str, runs: list[ClaimedRun]) -> list[ClaimedRun]:
        if self.lose.get(call):
            raise self.lose[call].popleft()
        return runs
