"""One attempt at a run: its input comes from blob, a child works on it, its outputs go to blob."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from common import telemetry
from common.contracts.job import ClaimedRun, InputRef, OutputInfo
from common.crash import crash_at
from common.errors import BadGateway, NotFound
from common.ids import output_blob_id
from gristmill import InputFile
from gristmill.wire import versions
from services.processor.child.main import INPUT_FILE
from services.processor.lease import Lease
from services.processor.ports import Blobs
from services.processor.registry import Processors
from services.processor.retry import until_responded
from services.processor.sandbox.folders import WorkFolder, run_folder
from services.processor.sandbox.process import FoundOutput, RunFailed, Sandbox, progress

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes them. `transfer_seconds` bounds the reading of the input, and the writing of all outputs."""

    blobs: Blobs
    sandbox: Sandbox
    processors: Processors
    folder: Path
    transfer_seconds: float

    async def make(self, run: ClaimedRun, lease: Lease) -> list[OutputInfo]:
        """The outputs, which are in blob by then. Raises `RunFailed`; cancelled, it leaves nothing running."""
        processor = self.processors.get(versions.name_of(run.processor))
        if processor is None:
            raise RunFailed("internal", "The run was given to a processor that doesn't have what it asks for.")
        source = run.inputs[0]
        most = processor.limits.max_input_bytes
        if most is not None and source.encoding is None and source.size > most:
            raise RunFailed("limit", f"{processor.name} takes at most {most} bytes.")
        async with run_folder(self.folder) as folder:
            with WorkFolder(folder) as work:
                path = folder / INPUT_FILE
                await self._download(source, path, lease)
                lease.enter("RUNNING", lambda: progress(folder))
                crash_at("processor.working")
                file = InputFile(path, source.name, source.mimetype, source.size)
                with telemetry.span(f"child {processor.name}"):
                    outputs = await self.sandbox.run(processor, file, run.params, work, source.encoding)
                uploaded = await self._upload(run, outputs, lease)
                crash_at("processor.uploaded")
                return uploaded

    async def _download(self, source: InputRef, path: Path, lease: Lease) -> None:
        lease.enter("DOWNLOADING")
        try:
            async with asyncio.timeout(self.transfer_seconds):
                await until_responded(lambda: download(self.blobs, source, path), "download")
        except NotFound:
            # Blobs are written once and visible only whole, so one that is missing doesn't come later.
            raise RunFailed("input-lost", "The input isn't in the store any more.") from None
        except TimeoutError:
            raise RunFailed("internal", "The input couldn't be read from the store in time.") from None

    async def _upload(self, run: ClaimedRun, outputs: list[FoundOutput], lease: Lease) -> list[OutputInfo]:
        lease.enter("UPLOADING")
        try:
            async with asyncio.timeout(self.transfer_seconds):
                return [
                    await upload(self.blobs, output_blob_id(run.id, run.fence, n), output)
                    for n, output in enumerate(outputs)
                ]
        except TimeoutError:
            raise RunFailed("internal", "The outputs couldn't be written to the store in time.") from None


async def download(blobs: Blobs, source: InputRef, path: Path) -> None:
    """Write the input to `path`. Raises `BadGateway` for other bytes than the job's: a bit can flip on the way."""
    digest = hashlib.sha256()
    size = 0
    # Not in a thread: a cancellation would lose the file that it opens.
    with path.open("wb") as target:
        async with blobs.open(source.blob_id) as body:
            async for chunk in body.chunks:
                size += len(chunk)
                if size > source.size:
                    break
                digest.update(chunk)
                target.write(chunk)
    if size != source.size or digest.hexdigest() != source.sha256:
        raise BadGateway("blob sent other bytes than the job's input.")


async def upload(blobs: Blobs, blob_id: str, output: FoundOutput) -> OutputInfo:
    """Write an output to blob, which checks size and digest while the bytes arrive. Measured and sent through the same
    descriptor: whatever is under its name by now, it is the same file.
    """
    with output.open() as source:
        size, sha256 = await asyncio.to_thread(_measure, source)
        await until_responded(lambda: blobs.put(blob_id, _read(source), size=size, sha256=sha256), "upload")
    return OutputInfo(name=output.name, mimetype=output.mimetype, size=size, sha256=sha256)


def _measure(source: BufferedReader) -> tuple[int, str]:
    digest = hashlib.file_digest(source, "sha256")
    return source.tell(), digest.hexdigest()


async def _read(source: BufferedReader) -> AsyncIterator[bytes]:
    # On the loop: the file was written moments ago, so its pages are in memory.
    source.seek(0)
    while chunk := source.read(CHUNK_BYTES):
        yield chunk
