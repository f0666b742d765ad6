"""Bodies come in pieces of every size, many at once: none may get another's bytes, or lose its own."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.support.serving import serving

AT_ONCE = 16


async def digest(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body with pauses, in which more of it and of others arrives, and answers with its SHA-256."""
    chunks = []
    async for chunk in Request(scope, receive).stream():
        chunks.append(chunk)
        await asyncio.sleep(0)
    await Response(hashlib.sha256(b"".join(chunks)).hexdigest())(scope, receive, send)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serving(digest) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


@pytest.mark.parametrize("chunk_bytes", [100, 5_000, 300_000])
async def test_bodies_that_come_at_once_stay_whole_and_apart(client: httpx.AsyncClient, chunk_bytes: int) -> None:
    async def send(body: bytes) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for first in range(0, len(body), chunk_bytes):
                yield body[first : first + chunk_bytes]

        expected = hashlib.sha256(body).hexdigest()
        for _ in range(2):  # on a connection that is kept, too
            assert (await client.put("/", content=chunks())).text == expected  # chunked
            assert (await client.put("/", content=body)).text == expected  # with its length

    await asyncio.gather(*(send(random.Random(n).randbytes(chunk_bytes * 7 + n)) for n in range(AT_ONCE)))
