"""blob over HTTP, on a real connection: its own answers first, then the client that the services use."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.fakes.keys import signer
from tests.support.blob_service import Blob, running_blob

MAX_BYTES = 3_000_000
LONG = b"0123456789abcdef" * 100_000
SHA256 = hashlib.sha256(LONG).hexdigest()


@pytest.fixture
async def blob(tmp_path: Path) -> AsyncIterator[Blob]:
    async with running_blob(tmp_path, max_blob_bytes=MAX_BYTES, stall_seconds=1) as running:
        yield running


@pytest.fixture
async def http(blob: Blob) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {signer('front').token('blob')}"}
    async with httpx.AsyncClient(base_url=f"{blob.url}/api/v1", headers=headers) as client:
        yield client


async def begin_upload(blob: Blob, framing: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the head of a PUT was sent."""
    address = httpx.URL(blob.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    token = signer("front").token("blob")
    head = ["PUT /api/v1/blob/b-1 HTTP/1.1", "Host: blob", f"Authorization: Bearer {token}", framing, "", ""]
    writer.write("\r\n".join(head).encode())
    return reader, writer


async def assert_refused_and_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in head.lower()
    assert b"/problems/too-large" in await reader.readuntil(b"}")
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_typical_journey(http: httpx.AsyncClient) -> None:
    created = await http.put("/blob/i-1", content=LONG)
    assert created.status_code == 201
    assert created.json() == {"id": "i-1", "size": len(LONG), "sha256": SHA256}
    assert (await http.put("/blob/i-1", content=LONG)).status_code == 200
    other = await http.put("/blob/i-1", content=b"other")
    assert (other.status_code, other.json()["type"]) == (412, "/problems/already-exists")

    answer = await http.get("/blob/i-1")
    assert (answer.status_code, answer.content) == (200, LONG)
    assert answer.headers["content-length"] == str(len(LONG))
    assert answer.headers["etag"] == f'"{SHA256}"'
    assert answer.headers["repr-digest"].startswith("sha-256=:")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = await http.head("/blob/i-1")
    told = ("content-length", "etag", "repr-digest", "last-modified", "accept-ranges", "content-type")
    assert [head.headers[name] for name in told] == [answer.headers[name] for name in told]

    minted = await http.post("/blob", content=b"")
    assert minted.status_code == 201
    page = (await http.get("/blob", params={"limit": 1})).json()
    rest = (await http.get("/blob", params={"after": page["next"]})).json()
    assert {item["id"] for item in page["items"] + rest["items"]} == {"i-1", minted.json()["id"]}
    assert rest.get("next") is None

    assert (await http.delete("/blob/i-1")).status_code == 204
    assert (await http.delete("/blob/i-1")).status_code == 404
    assert (await http.get("/blob/i-1")).status_code == 404
    assert (await http.head("/blob/i-1")).status_code == 404


async def test_ranges(http: httpx.AsyncClient) -> None:
    await http.put("/blob/b-1", content=LONG)

    async def get(byte_range: str, **headers: str) -> httpx.Response:
        return await http.get("/blob/b-1", headers={"Range": byte_range, **headers})

    part = await get("bytes=5-14")
    assert (part.status_code, part.content) == (206, LONG[5:15])
    assert part.headers["content-range"] == f"bytes 5-14/{len(LONG)}"
    assert part.headers["content-length"] == "10"
    assert (await get("bytes=-7")).content == LONG[-7:]
    assert (await get("bytes=1599990-")).content == LONG[1_599_990:]
    outside = await get(f"bytes={len(LONG)}-")
    assert (outside.status_code, outside.headers["content-range"]) == (416, f"bytes */{len(LONG)}")
    several = await get("bytes=" + ",".join(f"{n}-{n}" for n in range(1_000)))
    assert (several.status_code, several.content) == (200, LONG)
    assert (await get("bytes=0-0", **{"If-Range": f'"{SHA256}"'})).status_code == 206
    assert (await get("bytes=0-0", **{"If-Range": '"another"'})).status_code == 200


async def test_each_route_lets_in_only_its_callers(blob: Blob) -> None:
    async with httpx.AsyncClient(base_url=f"{blob.url}/api/v1") as client:

        async def status(method: str, path: str, caller: str, audience: str = "blob") -> int:
            token = signer(caller).token(audience)
            return (await client.request(method, path, headers={"Authorization": f"Bearer {token}"})).status_code

        for method, path in (("PUT", "/blob/b-1"), ("GET", "/blob/b-1"), ("DELETE", "/blob/b-1"), ("GET", "/blob")):
            assert (await client.request(method, path)).status_code == 401
            assert await status(method, path, "front", audience="job") == 401
            assert await status(method, path, "job") == 403
        assert await status("PUT", "/blob/b-1", "processor") == 201
        assert await status("GET", "/blob/b-1", "processor") == 200
        assert await status("DELETE", "/blob/b-1", "processor") == 403
        assert await status("GET", "/blob", "processor") == 403


async def test_a_body_declared_over_the_limit_is_refused_before_it_is_read(blob: Blob) -> None:
    reader, writer = await begin_upload(blob, f"Content-Length: {MAX_BYTES + 1}")
    await assert_refused_and_closed(reader, writer)
    assert blob.staging() == []


async def test_a_body_is_refused_where_it_passes_the_limit(blob: Blob, http: httpx.AsyncClient) -> None:
    reader, writer = await begin_upload(blob, "Transfer-Encoding: chunked")
    answering = asyncio.create_task(assert_refused_and_closed(reader, writer))
    with suppress(ConnectionError):
        while not answering.done():  # a body without an end: only the response stops it
            writer.write(b"f4240\r\n" + bytes(1_000_000) + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
    await answering
    assert blob.staging() == []
    assert (await http.head("/blob/b-1")).status_code == 404


async def test_bad_input_is_refused_and_nothing_kept(blob: Blob, http: httpx.AsyncClient) -> None:
    wrong = {"Content-Digest": f"sha-256=:{'A' * 43}=:"}
    refused = await http.put("/blob/b-1", content=LONG, headers=wrong)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/digest-mismatch")
    assert (await http.put("/blob/b-1", content=b"", headers={"Content-Digest": "nonsense"})).status_code == 400
    for labels in ("nonsense", "tenant=a", "&".join(f"x{n}=y" for n in range(1000)), "tenant=" + "x" * 300):
        assert (await http.put("/blob/b-1", content=b"x", headers={"Blob-Labels": labels})).status_code == 400
    assert (await http.put("/blob/NOT-AN-ID", content=b"")).status_code == 422
    assert (await http.get("/blob/..%00")).status_code == 404
    assert (await http.get("/blob", params={"limit": 1_001})).status_code == 422
    assert (await http.get("/blob", params={"prefix": "../"})).status_code == 422
    not_allowed = await http.patch("/blob/b-1")
    assert not_allowed.status_code == 405
    assert not_allowed.headers["content-type"] == "application/problem+json"
    assert blob.staging() == []
    assert (await http.get("/blob")).json() == {"items": []}


@pytest.mark.parametrize("framing", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("ending", ["gone", "silent"])
async def test_a_client_that_stops_midway_leaves_nothing(
    blob: Blob, http: httpx.AsyncClient, framing: str, ending: str
) -> None:
    reader, writer = await begin_upload(blob, framing)
    writer.write(b"f4240\r\n" + bytes(1_000_000))
    await blob.staged(1)
    if ending == "silent":
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()
    await blob.staged(0)
    assert (await http.head("/blob/b-1")).status_code == 404


async def test_health_needs_no_token_and_tells_of_a_drain_and_of_a_lost_folder(blob: Blob) -> None:
    async with httpx.AsyncClient(base_url=blob.url) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        (blob.data / "staging").rename(blob.data / "lost")
        assert (await client.get("/readyz")).status_code == 503
        (blob.data / "lost").rename(blob.data / "staging")
        blob.readiness.draining = True
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 404
