"""What every blob store promises: the filesystem's, that of S3, and the tests' own in memory."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.errors import AlreadyExists, DigestMismatch, Malformed, NotFound, StorageFull, TooLarge
from services.blob import use_cases
from services.blob.adapters.filesystem.store import open_filesystem_store
from services.blob.ports import BlobStore, OpenBlob
from tests.fakes.blob_store import MemoryBlobStore
from tests.fakes.keys import master_keys
from tests.support.s3 import TestBucket

# Longer than what is hashed, read or handed over at once, and no multiple of any of it.
LONG = b"0123456789abcdef" * 100_000 + b"end"


@pytest.fixture
async def filesystem_store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with open_filesystem_store(tmp_path / "data") as store:
        yield store
    assert list((tmp_path / "data/staging").iterdir()) == []


@pytest.fixture
async def encrypted_store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with open_filesystem_store(tmp_path / "data", keys=master_keys("2026")) as store:
        yield store
    assert list((tmp_path / "data/staging").iterdir()) == []


@pytest.fixture
async def s3_store(s3_bucket: TestBucket) -> AsyncIterator[BlobStore]:
    async with s3_bucket.open_store() as store:
        yield store
    assert await s3_bucket.unfinished_uploads() == []


@pytest.fixture
async def memory_store() -> AsyncIterator[BlobStore]:
    store = MemoryBlobStore()
    yield store
    assert store.staged == []


@pytest.fixture(params=["filesystem", "encrypted", "s3", "memory"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    store: BlobStore = request.getfixturevalue(f"{request.param}_store")
    return store


async def chunks_of(data: bytes, size: int = 65_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(
    store: BlobStore, blob_id: str, data: bytes, *, size: int | None = None, sha256: str | None = None
) -> use_cases.Written:
    return await use_cases.write(store, blob_id, chunks_of(data), size=size, sha256=sha256, max_bytes=2**60)


async def read(opened: OpenBlob, first: int = 0, last: int | None = None) -> bytes:
    end = opened.blob.size - 1 if last is None else last
    try:
        return b"".join([chunk async for chunk in opened.read(first, end)])
    finally:
        opened.close()


@pytest.mark.parametrize("data", [b"", b"x", LONG], ids=["empty", "short", "long"])
async def test_a_blob_reads_as_it_was_written(store: BlobStore, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    assert await put(store, "b-1", data) == use_cases.Written("b-1", len(data), digest, created=True)
    opened = await store.open("b-1")
    assert (opened.blob.size, opened.blob.sha256) == (len(data), digest)
    assert opened.blob == await store.stat("b-1")
    assert await read(opened) == data


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 1_000_000), (len(LONG) - 2, len(LONG) - 1)])
async def test_a_range_is_that_part(store: BlobStore, first: int, last: int) -> None:
    await put(store, "b-1", LONG)
    assert await read(await store.open("b-1"), first, last) == LONG[first : last + 1]


async def test_the_same_bytes_again_are_no_conflict_and_other_bytes_are(store: BlobStore) -> None:
    await put(store, "b-1", b"first")
    assert not (await put(store, "b-1", b"first")).created
    with pytest.raises(AlreadyExists):
        await put(store, "b-1", b"other")
    with pytest.raises(AlreadyExists):
        await put(store, "b-1", b"longer than first")
    assert await read(await store.open("b-1")) == b"first"


async def test_of_racing_writers_exactly_one_wins(store: BlobStore) -> None:
    bodies = [b"one" * 100_000] * 4 + [b"two" * 100_000] * 4
    results = await asyncio.gather(*(put(store, "b-1", body) for body in bodies), return_exceptions=True)
    assert sum(isinstance(result, use_cases.Written) and result.created for result in results) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == 4
    winners = {body for body, result in zip(bodies, results, strict=True) if isinstance(result, use_cases.Written)}
    assert winners == {await read(await store.open("b-1"))}


async def test_a_half_written_blob_is_not_there(store: BlobStore) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield LONG
        arrived.set()
        await go_on.wait()
        yield b"rest"

    writing = asyncio.create_task(use_cases.write(store, "b-1", body(), size=None, sha256=None, max_bytes=2**60))
    await arrived.wait()
    with pytest.raises(NotFound):
        await store.open("b-1")
    assert await store.page("", "", 10) == []
    go_on.set()
    await writing
    assert await read(await store.open("b-1")) == LONG + b"rest"


async def test_a_body_that_raises_leaves_nothing(store: BlobStore) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LONG
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await use_cases.write(store, "b-1", body(), size=None, sha256=None, max_bytes=2**60)
    await assert_absent(store, "b-1")


async def test_a_cancelled_write_leaves_nothing(store: BlobStore) -> None:
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield LONG
        arrived.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(use_cases.write(store, "b-1", body(), size=None, sha256=None, max_bytes=2**60))
    await arrived.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await assert_absent(store, "b-1")


async def test_what_is_not_as_declared_leaves_nothing(store: BlobStore) -> None:
    with pytest.raises(DigestMismatch):
        await put(store, "b-1", LONG, sha256=hashlib.sha256(b"else").hexdigest())
    with pytest.raises(Malformed):
        await put(store, "b-1", LONG, size=len(LONG) + 1)
    with pytest.raises(TooLarge):
        await use_cases.write(store, "b-1", chunks_of(LONG), size=None, sha256=None, max_bytes=len(LONG) - 1)
    with pytest.raises(StorageFull):
        await put(store, "b-1", b"", size=2**50)
    await assert_absent(store, "b-1")


async def test_a_deleted_blob_is_gone_but_an_open_one_reads_on(store: BlobStore) -> None:
    await put(store, "b-1", LONG)
    opened = await store.open("b-1")
    await store.delete("b-1")
    await assert_absent(store, "b-1")
    assert await read(opened) == LONG
    with pytest.raises(NotFound):
        await store.delete("b-1")
    assert (await put(store, "b-1", b"new")).created


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_hold_each_blob_once(store: BlobStore, limit: int) -> None:
    wanted, others = numbered("i-", 40), numbered("o-", 20)
    for blob_id in itertools.chain(wanted, others):
        await put(store, blob_id, b"")
    assert sorted(await listed(store, "i-", limit)) == sorted(wanted)
    assert sorted(await listed(store, "", limit)) == sorted([*wanted, *others])


async def test_pages_go_on_after_a_blob_that_was_deleted(store: BlobStore) -> None:
    for blob_id in numbered("b-", 30):
        await put(store, blob_id, b"")
    page, after = await use_cases.list_page(store, "", "", 10)
    assert after is not None
    for blob in page:
        await store.delete(blob.id)
    assert len(await listed(store, "", 10, after)) == 20


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


async def listed(store: BlobStore, prefix: str, limit: int, after: str = "") -> list[str]:
    found: list[str] = []
    following: str | None = after
    while following is not None:
        page, following = await use_cases.list_page(store, prefix, following, limit)
        assert len(page) <= limit
        found += [blob.id for blob in page]
    return found


async def assert_absent(store: BlobStore, blob_id: str) -> None:
    for look in (store.open, store.stat):
        with pytest.raises(NotFound):
            await look(blob_id)
    assert blob_id not in await listed(store, "", 100)
