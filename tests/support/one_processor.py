"""A worker with one processor and real child processes, over a job and a blob in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.contracts.job import Complete, Fail
from common.ids import output_blob_id
from gristmill import Processor
from services.processor.app import open_worker
from services.processor.settings import Settings
from tests.fakes.processor_ports import FakeBlobs, FakeRuns


@dataclass(frozen=True)
class Output:
    name: str
    mimetype: str
    content: bytes


@dataclass(frozen=True)
class OneProcessor:
    """Runs are submitted one at a time."""

    job: FakeRuns
    blob: FakeBlobs
    work_dir: Path

    async def run(self, content: bytes = b"some input", **submit: Any) -> list[Output]:
        """The outputs of a run that has to come to a good end."""
        run = self.job.submit(content, **submit)
        _, report = await self.job.reports.get()
        assert isinstance(report, Complete), report
        blobs = [self.blob.blobs[output_blob_id(run.id, run.fence, n)] for n in range(len(report.outputs))]
        return [Output(info.name, info.mimetype, blob) for info, blob in zip(report.outputs, blobs, strict=True)]

    async def failure(self, content: bytes = b"some input", **submit: Any) -> tuple[str, str]:
        """The type and the detail of a run that has to fail."""
        self.job.submit(content, **submit)
        _, report = await self.job.reports.get()
        assert isinstance(report, Fail), report
        return report.error.type, report.error.detail


@asynccontextmanager
async def one_processor(processor: Processor[Any], folder: Path, **settings: Any) -> AsyncIterator[OneProcessor]:
    """A worker that works while the body lasts, and leaves no file behind; `settings` override its own."""
    blob = FakeBlobs()
    job = FakeRuns(blob, processor.name)
    told = Settings(
        **{
            "job_url": "http://job",
            "blob_url": "http://blob",
            "key_file": folder / "unused.pem",
            "work_dir": folder / "work",
            "heartbeat_seconds": 0.2,
            "memory_bytes": 2**29,
            **settings,
        }
    )
    async with open_worker(told, job, blob, {processor.name: processor}) as worker:
        running = asyncio.create_task(worker.run())
        yield OneProcessor(job, blob, folder / "work")
        worker.stop()
        await running
    assert [path.name for path in (folder / "work").glob("*/*") if path.name != "lock"] == []
