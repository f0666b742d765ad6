"""A storm of requests that break off, of every kind and at every moment, leaves nothing held."""

import asyncio
import gc
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.shares import Shares
from tests.support.platform import Platform, eventually, open_platform, token
from tests.support.serving import serving
from tests.support.wire import KINDS, chunk

VOLLEYS = 40
LONGEST_SECONDS = 0.05
# Closes a connection with a reset in place of an end.
RESET = struct.pack("ii", 1, 0)
RAW = {"Content-Type": "text/plain"}


@pytest.fixture
async def platform(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(mongodb_uri, tmp_path.name, tmp_path, stall_seconds=1) as platform:
        yield platform


def head(line: str, *fields: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: front", f"Authorization: Bearer {token()}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def posts() -> list[bytes]:
    """Each kind of body, whole and shorter than declared, chunked, and under a key."""
    kinds = []
    for path, media_type, beginning in KINDS.values():
        line, of = f"POST {path}", f"Content-Type: {media_type}"
        kinds += [
            head(line, of, f"Content-Length: {len(beginning)}", "Prefer: wait=60") + beginning,
            head(line, of, "Content-Length: 100000") + beginning,
            head(line, of, "Transfer-Encoding: chunked") + chunk(beginning),
            head(line, of, "Content-Length: 5000", 'Idempotency-Key: "storm"', "Prefer: wait=60") + beginning,
        ]
    return kinds


async def requests(platform: Platform) -> list[bytes]:
    alice = platform.client()
    done = await alice.post("/api/v1/job?processor=checksum", content=b"some", headers={**RAW, "Prefer": "wait=30"})
    files = [{"name": "a", "size": 4, "mimetype": "text/plain"}] * 3
    batch = (await alice.post("/api/v1/batch", json={"processor": "checksum", "files": files})).json()
    waiting = f"/api/v1/job/{batch['items'][0]['id']}"
    return [
        *posts(),
        head(f"GET {waiting}/status"),
        head(f"GET {waiting}/status", "Prefer: wait=60"),
        head(f"GET {waiting}/status", "Prefer: wait=60") + head("GET /api/v1/job"),
        head(f"GET {waiting}/events"),
        head(f"GET /api/v1/batch/{batch['id']}/events"),
        head(f"GET /api/v1/job/{done.json()['id']}/output"),
        head(f"POST {waiting}/upload/complete", "Content-Type: application/json", "Content-Length: 500") + b"{",
        head("GET /api/v1/job"),
    ]


async def broken_off(address: str, request: bytes, chance: random.Random) -> None:
    """Send some of the request, or all of it, in two pieces; and go, with an end or a reset, after a moment."""
    parts = urlsplit(address)
    at = len(request) if chance.random() < 0.5 else chance.randrange(1, len(request))
    cut = chance.randrange(at)
    delays, resets = [chance.uniform(0, LONGEST_SECONDS) for _ in range(2)], chance.random() < 0.5
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    with suppress(ConnectionError):
        writer.write(request[:cut])
        await asyncio.sleep(delays[0])  # any moment may be the one that matters
        writer.write(request[cut:at])
        await asyncio.sleep(delays[1])
    if resets and not writer.is_closing():  # it is, where the server has reset it
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()


async def test_a_storm_of_requests_that_break_off_leaves_nothing_held(platform: Platform) -> None:
    chance = random.Random(1)
    every = [one for one in gc.get_objects() if isinstance(one, Shares) and not one.used]
    most = dict.fromkeys(every, 0)
    async with serving(platform.front, header_seconds=1) as address:
        kinds = await requests(platform)
        for _ in range(VOLLEYS):
            storm = asyncio.gather(*(broken_off(address, request, chance) for request in kinds))
            while (await asyncio.wait({storm}, timeout=LONGEST_SECONDS / 10))[1]:
                most = {shares: max(held, shares.used) for shares, held in most.items()}
            await storm

        async def nothing_held() -> bool:
            return not any(shares.used for shares in every)

        await eventually(nothing_held)
    assert sum(held > 0 for held in most.values()) >= 6  # requests, waits, uploads, JSON, streams, watched
