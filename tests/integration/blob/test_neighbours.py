"""What is held by whoever has signed URLs leaves places to other owners, and all of those that services have."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from common.clients.blob import BlobClient, open_blob_client
from tests.fakes.keys import signer
from tests.integration.blob.test_uploads import facts_of, plan_of
from tests.support.blob_service import Blob, running_blob

SHORT = b"short"


@pytest.fixture
async def blob(tmp_path: Path) -> AsyncIterator[Blob]:
    async with running_blob(tmp_path, max_requests=6) as running:
        yield running


@pytest.fixture
async def front(blob: Blob) -> AsyncIterator[BlobClient]:
    async with open_blob_client(blob.url, signer("front")) as opened:
        yield opened


async def dripping(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A PUT whose body doesn't come."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"PUT {parts.path} HTTP/1.1\r\nHost: blob\r\nContent-Length: {len(SHORT)}\r\n\r\ns".encode())
    await writer.drain()
    return reader, writer


async def test_dripping_uploads_of_one_owner_leave_places_to_others_and_to_services(front: BlobClient) -> None:
    mine = [(await plan_of(front, facts_of(SHORT))).url or "" for _ in range(6)]
    wires = [await dripping(url) for url in mine]
    refused = []
    async with asyncio.timeout(20):
        for line in asyncio.as_completed([reader.readuntil(b"\r\n") for reader, _ in wires]):
            refused.append((await line).split()[1])
            if len(refused) == 4:
                break
    assert refused == [b"429"] * 4
    theirs = await plan_of(front, facts_of(SHORT, tenant="other"))
    async with httpx.AsyncClient(trust_env=False) as user:
        assert (await user.put(theirs.url or "", content=SHORT)).status_code == 200
    await front.put("i-0", SHORT)
    for _, writer in wires:
        writer.close()


async def test_the_public_port_has_nothing_but_signed_urls(blob: Blob) -> None:
    async with httpx.AsyncClient(base_url=blob.data_url, trust_env=False) as anybody:
        for path in ("/metrics", "/api/v1/blob", "/docs"):
            assert (await anybody.get(path)).status_code == 404
        assert (await anybody.get("/readyz")).status_code == 200
