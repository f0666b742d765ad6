"""The client that the services call blob with: what it raises, and that nothing half done passes for done."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clients.blob import BlobClient, open_blob_client
from common.errors import (
    AlreadyExists,
    BadGateway,
    DigestMismatch,
    Forbidden,
    Malformed,
    NotFound,
    RangeNotSatisfiable,
    TooLarge,
    Unavailable,
)
from tests.fakes.keys import signer
from tests.support.blob_service import Blob, running_blob

LONG = b"0123456789abcdef" * 100_000
SHA256 = hashlib.sha256(LONG).hexdigest()


@pytest.fixture
async def blob(tmp_path: Path) -> AsyncIterator[Blob]:
    async with running_blob(tmp_path, max_blob_bytes=3_000_000) as running:
        yield running


@pytest.fixture
async def client(blob: Blob) -> AsyncIterator[BlobClient]:
    async with open_blob_client(blob.url, signer("front")) as opened:
        yield opened


async def in_chunks(data: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65_000):
        yield data[start : start + 65_000]
    if then is not None:
        raise then


async def read(client: BlobClient, blob_id: str, byte_range: str | None = None) -> bytes:
    async with client.open(blob_id, byte_range) as body:
        data = b"".join([chunk async for chunk in body.chunks])
        assert len(data) == body.size
        return data


async def test_typical_journey(client: BlobClient) -> None:
    assert (await client.put("i-1", in_chunks(LONG), size=len(LONG), sha256=SHA256)).sha256 == SHA256
    assert (await client.put("i-1", LONG)).size == len(LONG)
    assert await read(client, "i-1") == LONG
    async with client.open("i-1", "bytes=10-19") as body:
        assert (body.status, body.size, body.content_range) == (206, 10, f"bytes 10-19/{len(LONG)}")
        assert b"".join([chunk async for chunk in body.chunks]) == LONG[10:20]
    head = await client.head("i-1")
    assert head is not None
    assert (head.size, head.sha256) == (len(LONG), SHA256)
    await client.put("o-1", b"")
    assert await read(client, "o-1") == b""
    listing = await client.list()
    assert {item.id for item in listing.items} == {"i-1", "o-1"}
    assert listing.next is None
    assert [item.id for item in (await client.list(prefix="o-")).items] == ["o-1"]
    await client.delete("i-1")
    await client.delete("i-1")
    assert await client.head("i-1") is None


async def test_each_refusal_is_raised_as_what_it_is(client: BlobClient, blob: Blob) -> None:
    await client.put("b-1", b"first")
    with pytest.raises(AlreadyExists):
        await client.put("b-1", in_chunks(LONG))
    with pytest.raises(DigestMismatch):
        await client.put("b-2", in_chunks(LONG), sha256=hashlib.sha256(b"else").hexdigest())
    with pytest.raises(NotFound):
        await read(client, "b-2")
    with pytest.raises(RangeNotSatisfiable):
        await read(client, "b-1", "bytes=5-")
    async with open_blob_client(blob.url, signer("processor")) as processor:
        with pytest.raises(Forbidden):
            await processor.delete("b-1")
    assert blob.staging() == []


@pytest.mark.parametrize("size", [None, 400_000_000], ids=["streamed", "declared"])
async def test_a_body_over_the_limit_is_too_large_and_not_unavailable(
    client: BlobClient, blob: Blob, size: int | None
) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1_000_000
            yield bytes(1_000_000)

    for _ in range(5):  # the response must win each time against the connection's end
        sent = 0
        with pytest.raises(TooLarge):
            await client.put("b-1", body(), size=size)
        assert sent < 400_000_000
    assert blob.staging() == []
    assert await client.head("b-1") is None


@pytest.mark.parametrize("size", [None, len(LONG) + 10], ids=["chunked", "sized"])
async def test_a_source_that_raises_aborts_the_upload(client: BlobClient, blob: Blob, size: int | None) -> None:
    for error in (KeyError("its own"), TimeoutError("its own"), ConnectionError("its own")):
        with pytest.raises(type(error), match="its own"):
            await client.put("b-1", in_chunks(LONG, then=error), size=size)
        await blob.staged(0)
        assert await client.head("b-1") is None


@pytest.mark.parametrize("size", [len(LONG) - 1, len(LONG) + 1], ids=["longer", "shorter"])
async def test_a_body_that_is_not_as_long_as_declared_is_not_kept(client: BlobClient, blob: Blob, size: int) -> None:
    with pytest.raises(Malformed):
        await client.put("b-1", in_chunks(LONG), size=size)
    await blob.staged(0)
    assert await client.head("b-1") is None


async def test_a_cancelled_upload_leaves_nothing(client: BlobClient, blob: Blob) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LONG
        await asyncio.Event().wait()

    upload = asyncio.create_task(client.put("b-1", body()))
    await blob.staged(1)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await blob.staged(0)
    assert await client.head("b-1") is None


async def test_bytes_that_rotted_are_never_a_complete_answer(client: BlobClient, blob: Blob) -> None:
    await client.put("b-1", LONG)
    with blob.file("b-1").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\xff")
    with pytest.raises(BadGateway):
        await read(client, "b-1")


@pytest.mark.parametrize("sent", [LONG[:-1], LONG[:-1] + b"!"], ids=["cut short", "changed"])
async def test_an_answer_that_changes_on_the_way_is_a_bad_gateway(sent: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f'HTTP/1.1 200 OK\r\nContent-Length: {len(LONG)}\r\nETag: "{SHA256}"\r\n\r\n'.encode() + sent)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_blob_client(f"http://127.0.0.1:{port}", signer("front")) as client:
            with pytest.raises(BadGateway):
                await read(client, "b-1")


@pytest.mark.parametrize("listening", [True, False], ids=["hangs up", "not there"])
async def test_a_blob_that_is_away_is_unavailable(listening: bool) -> None:
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        if not listening:
            server.close()
        async with open_blob_client(f"http://127.0.0.1:{port}", signer("front")) as client:
            for put in (client.put("b-1", b"x"), client.put("b-1", in_chunks(LONG))):
                with pytest.raises(Unavailable):
                    await put
            for call in (read(client, "b-1"), client.head("b-1"), client.delete("b-1"), client.list()):
                with pytest.raises(Unavailable):
                    await call


async def test_what_a_reader_raises_is_its_own(client: BlobClient) -> None:
    await client.put("b-1", LONG)
    with pytest.raises(TimeoutError):
        async with client.open("b-1"):
            raise TimeoutError
