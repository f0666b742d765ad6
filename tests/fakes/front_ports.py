"""blob and job as front sees them, in memory, and a crash that strikes between any two of a process's steps."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from common.contracts.blob import BlobInfo, BlobLabels, BlobList
from common.contracts.job import OutputInfo, RunError, RunState, RunStatus, RunSubmit
from common.contracts.upload import CompletedPart, UploadFacts, UploadPlan, UploadRequest, UploadStatus
from common.errors import Conflict
from gristmill.wire.processors import OfferedProcessor
from services.front.ports import BlobBody


class MemoryBlobs:
    """`services.front.ports.Blobs`, as far as inputs go."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(
        self,
        blob_id: str,
        body: bytes | AsyncIterator[bytes],
        *,
        size: int | None = None,
        sha256: str | None = None,
        labels: BlobLabels | None = None,
    ) -> BlobInfo:
        content = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
        assert self.kept.setdefault(blob_id, content) == content, "blobs are written once"
        return self._info(blob_id)

    def _info(self, blob_id: str) -> BlobInfo:
        content = self.kept[blob_id]
        return BlobInfo(id=blob_id, size=len(content), sha256=hashlib.sha256(content).hexdigest())

    def open(self, blob_id: str, byte_range: str | None = None) -> AbstractAsyncContextManager[BlobBody]:
        raise NotImplementedError

    async def head(self, blob_id: str) -> BlobInfo | None:
        return self._info(blob_id) if blob_id in self.kept else None

    async def delete(self, blob_id: str) -> None:
        self.kept.pop(blob_id, None)

    async def plan_uploads(self, requests: Sequence[UploadRequest]) -> Sequence[UploadPlan]:
        raise NotImplementedError

    async def complete_upload(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        raise NotImplementedError

    async def abort_upload(self, blob_id: str) -> None:
        raise NotImplementedError

    async def upload_statuses(self, facts: Sequence[UploadFacts]) -> Sequence[UploadStatus]:
        raise NotImplementedError

    async def list(self, prefix: str = "", after: str = "") -> BlobList:
        raise NotImplementedError


class MemoryRuns:
    """`services.front.ports.Runs`; a test ends the runs."""

    def __init__(self) -> None:
        self.known: dict[str, RunStatus] = {}
        self.submitted: dict[str, RunSubmit] = {}
        self.deleted: dict[str, RunStatus] = {}

    async def submit(self, run: RunSubmit) -> None:
        assert self.submitted.setdefault(run.id, run) == run, "submitted again, a run is the same"
        if run.id not in self.deleted:  # job remembers for long how it ended
            self.known.setdefault(run.id, RunStatus(id=run.id, status=RunState.QUEUED, fence=0, attempt=0))

    def end(self, run_id: str, success: bool) -> None:
        output = OutputInfo(name="o", mimetype="text/plain", size=1, sha256="ab" * 32)
        self.known[run_id] = RunStatus(
            id=run_id,
            status=RunState.SUCCESS if success else RunState.FAILED,
            fence=1,
            attempt=1,
            outputs=[output] if success else [],
            error=None if success else RunError(type="invalid-input", detail="broken"),
        )

    async def cancel(self, run_id: str) -> RunStatus:
        if run_id in self.deleted:
            return self.deleted[run_id]
        run = self.known.get(run_id)
        if run is None or run.status in (RunState.QUEUED, RunState.RUNNING):
            self.known[run_id] = RunStatus(id=run_id, status=RunState.CANCELLED, fence=1, attempt=0)
        return self.known[run_id]

    async def delete(self, run_id: str) -> None:
        if run_id in self.known and self.known[run_id].status in (RunState.QUEUED, RunState.RUNNING):
            raise Conflict
        if run_id in self.known:
            self.deleted[run_id] = self.known.pop(run_id)

    async def statuses(self, ids: Sequence[str]) -> dict[str, RunStatus]:
        return {run_id: self.known[run_id] for run_id in ids if run_id in self.known}

    async def processors(self) -> Sequence[OfferedProcessor]:
        raise NotImplementedError


class Crash(BaseException):
    """SIGKILL, as far as one process's code can see it."""


class Fuse:
    """Burns down by one with each call that a process makes; when it is out, the process is dead.

    `after` says whether the last call still took hold, its response being lost.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.after = False

    def set(self, left: int | None, after: bool) -> None:
        self.left, self.after = left, after


class Fused:
    """A port whose calls burn a fuse."""

    def __init__(self, real: Any, fuse: Fuse) -> None:
        self._real, self._fuse = real, fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            fuse = self._fuse
            if fuse.left is None:
                return await method(*args, **kwargs)
            if fuse.left > 0:
                fuse.left -= 1
                return await method(*args, **kwargs)
            if fuse.after and fuse.left == 0:
                fuse.left = -1
                await method(*args, **kwargs)
            raise Crash

        return call
