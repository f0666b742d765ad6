"""What a processor is made of, and how it is stopped."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.alive import showing_life
from common.auth import ServiceTokenSigner
from common.clients.blob import open_blob_client
from common.clients.http import ServiceHttp, open_http
from common.clients.job import JobClient
from services.processor.attempt import Attempts
from services.processor.child.main import Limits
from services.processor.ports import Blobs, Runs
from services.processor.registry import Processors
from services.processor.sandbox.folders import process_folder
from services.processor.sandbox.process import Sandbox
from services.processor.settings import Settings
from services.processor.worker import Pace, Worker


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[tuple[Runs, Blobs]]:
    """Clients of job and blob, with connection pools of their own."""
    signer = ServiceTokenSigner.from_file("processor", settings.key_file)
    async with open_http(settings.job_url) as http, open_blob_client(settings.blob_url, signer) as blobs:
        yield JobClient(ServiceHttp(http, signer, "job")), blobs


@asynccontextmanager
async def open_worker(settings: Settings, runs: Runs, blobs: Blobs, processors: Processors) -> AsyncIterator[Worker]:
    """A worker that is ready to run, and its private folder, which goes with it."""
    sandbox = Sandbox.started(
        Limits(
            memory_bytes=settings.memory_bytes,
            cpu_seconds=settings.cpu_seconds,
            wall_seconds=settings.wall_seconds,
            output_bytes=settings.output_bytes,
            work_bytes=settings.work_bytes,
            open_files=settings.open_files,
            max_decoded_bytes=settings.max_decoded_bytes,
            max_decoded_ratio=settings.max_decoded_ratio,
        ),
        processors.values(),
        settings.readable,
        strict=settings.sandbox == "strict",
    )
    with process_folder(settings.work_dir) as folder:
        attempts = Attempts(blobs, sandbox, processors, folder, settings.wall_seconds)
        yield Worker(
            runs,
            attempts,
            Pace(
                slots=settings.slots,
                heartbeat_seconds=settings.heartbeat_seconds,
                offer_seconds=settings.offer_seconds,
                claim_wait_seconds=settings.claim_wait_seconds,
                drain_seconds=settings.drain_seconds,
            ),
        )


def run_processor(settings: Settings, processors: Processors) -> None:
    """Build the worker and let it work until SIGTERM or SIGINT."""

    async def main() -> None:
        async with (
            open_services(settings) as (runs, blobs),
            open_worker(settings, runs, blobs, processors) as worker,
            showing_life(settings.alive_file),
        ):
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, worker.stop)
            await worker.run()

    asyncio.run(main())
