"""A blob process that is killed just when it verifies what was uploaded."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from common.clients.blob import BlobClient, open_blob_client
from common.contracts.upload import UploadFacts, UploadPart, UploadPlan, UploadRequest
from common.ids import input_blob_id, new_id
from deploy.local import keys
from deploy.local.mongod import free_port
from services.blob.domain.uploads import PART_BYTES
from tests.fakes.keys import signer
from tests.support.applications import write_keys

LONG = random.Random(3).randbytes(12 * PART_BYTES + 5)


@dataclass
class Blob:
    """`python -m services.blob`, which can be killed and started again on the same folder and port."""

    settings: dict[str, str]
    url: str
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.blob", env=self.settings)
        async with asyncio.timeout(30), httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            while not await is_ready(client):  # noqa: ASYNC110 - another process; it is asked as a probe would
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        assert self.process
        self.process.kill()
        await self.process.wait()


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Blob]:
    _, callers = write_keys(folder)
    port = free_port()
    blob = Blob(
        {
            "PATH": os.environ["PATH"],
            "BLOB_PORT": str(port),
            "BLOB_DATA_PORT": str(free_port()),
            "BLOB_DATA_DIR": str(folder / "data"),
            "BLOB_CALLERS_DIR": str(callers),
            "BLOB_UPLOAD_KEY_FILE": str(keys.ensure(folder).uploads_secret),
        },
        f"http://127.0.0.1:{port}",
    )
    await blob.start()
    try:
        yield blob
    finally:
        await blob.kill()


async def plan_of(front: BlobClient, facts: UploadFacts) -> UploadPlan:
    (plan,) = await front.plan_uploads([UploadRequest(facts=facts, expires_in=600)])
    return plan


async def send_all(plan: UploadPlan) -> list[int]:
    """Every part, four at once; the numbers of those that were acknowledged."""
    at_once = asyncio.Semaphore(4)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as user:

        async def send(part: UploadPart) -> int:
            offset = (part.number - 1) * PART_BYTES
            async with at_once:
                (await user.put(part.url or "", content=LONG[offset : offset + part.size])).raise_for_status()
            return part.number

        return await asyncio.gather(*map(send, plan.parts))


async def test_a_verification_whose_process_is_killed_is_resumed_unasked(tmp_path: Path) -> None:
    facts = UploadFacts(
        id=input_blob_id(new_id()), size=len(LONG), media_type="a/b", name="a", tenant="acme", subject="alice"
    )
    async with running(tmp_path) as blob, open_blob_client(blob.url, signer("front")) as front:
        assert len(await send_all(await plan_of(front, facts))) == 13
        await blob.kill()  # the last part was answered just now, and hashing it all takes longer
        await blob.start()
        async with asyncio.timeout(60):
            # Which asks for the blob, and not about the upload.
            while await front.head(facts.id) is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        async with front.open(facts.id) as body:
            assert b"".join([chunk async for chunk in body.chunks]) == LONG
