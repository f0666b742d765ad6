"""What only the S3 store can be put through: many parts, a store that falters, objects that changed behind its back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from common.errors import AlreadyExists, NotFound, StorageFull, Unavailable
from services.blob.adapters.s3.store import MIN_PART_BYTES, S3BlobStore, part_size
from services.blob.ports import CorruptBlob
from tests.contract.test_blob_store import LONG, put, read
from tests.fakes.faulty_s3 import FULL, INTERNAL_ERROR, SLOW_DOWN, FaultyS3, faulty_s3
from tests.support.s3 import TestBucket

MANY_PARTS = b"0123456789abcdef" * (2 * MIN_PART_BYTES // 16) + b"and a third one"


@pytest.fixture
async def store(s3_bucket: TestBucket) -> AsyncIterator[S3BlobStore]:
    async with s3_bucket.open_store() as opened:
        yield opened
    assert await s3_bucket.unfinished_uploads() == []


@pytest.fixture
async def proxy(s3_bucket: TestBucket) -> AsyncIterator[FaultyS3]:
    assert s3_bucket.options.endpoint
    async with faulty_s3(s3_bucket.options.endpoint) as started:
        yield started


@pytest.fixture
async def faulty(s3_bucket: TestBucket, proxy: FaultyS3) -> AsyncIterator[S3BlobStore]:
    async with s3_bucket.open_store(endpoint=proxy.endpoint) as opened:
        yield opened


def is_complete(request: web.Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


@pytest.mark.parametrize("size", [MIN_PART_BYTES, MIN_PART_BYTES + 1, len(MANY_PARTS)])
async def test_a_blob_of_several_parts_reads_as_it_was_written(store: S3BlobStore, size: int) -> None:
    data = MANY_PARTS[:size]
    assert (await put(store, "b-1", data)).created
    assert not (await put(store, "b-1", data)).created
    with pytest.raises(AlreadyExists):
        await put(store, "b-1", data[:-1] + b"x")
    assert await read(await store.open("b-1")) == data
    middle = size // 2
    assert await read(await store.open("b-1"), middle, size - 1) == data[middle:]
    assert await read(await store.open("b-1"), 0, middle) == data[: middle + 1]
    assert await read(await store.open("b-1"), middle, middle) == data[middle : middle + 1]


async def test_of_racing_writers_of_parts_exactly_one_wins(store: S3BlobStore) -> None:
    bodies = [MANY_PARTS, MANY_PARTS, MANY_PARTS[:-1] + b"X"]
    results = await asyncio.gather(*(put(store, "b-1", body) for body in bodies), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) and result.created for result in results) == 1
    assert all(isinstance(result, AlreadyExists) for result in results if isinstance(result, BaseException))


def test_parts_are_as_long_as_they_have_to_be() -> None:
    assert part_size(1) == part_size(5 * 1024**3) == MIN_PART_BYTES
    assert 10_000 * part_size(1024**4) >= 1024**4 + 52
    with pytest.raises(StorageFull):
        part_size(2**50)


@pytest.mark.parametrize("error", [SLOW_DOWN, INTERNAL_ERROR])
async def test_errors_of_a_moment_are_waited_out(faulty: S3BlobStore, proxy: FaultyS3, error: tuple[int, str]) -> None:
    proxy.error = error
    proxy.fail = 2
    assert (await put(faulty, "b-1", b"x")).created
    proxy.fail = 1
    assert await read(await faulty.open("b-1")) == b"x"
    assert proxy.fail == 0


@pytest.mark.parametrize("error", [SLOW_DOWN, INTERNAL_ERROR])
async def test_a_store_that_only_fails_is_given_up_and_keeps_nothing(
    s3_bucket: TestBucket, faulty: S3BlobStore, proxy: FaultyS3, error: tuple[int, str]
) -> None:
    proxy.error = error
    proxy.fail = 1_000
    with pytest.raises(Unavailable):
        await put(faulty, "b-1", b"x")
    assert len(proxy.requests) < 12  # the write's four tries, and as many to see whether one of them was done
    assert await s3_bucket.keys() == []
    with pytest.raises(Unavailable):
        await faulty.check()


async def test_all_calls_share_one_budget_of_retries(faulty: S3BlobStore, proxy: FaultyS3) -> None:
    proxy.fail = 10_000
    calls = 150
    answers = await asyncio.gather(*(faulty.stat("b-1") for _ in range(calls)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {Unavailable}
    assert calls < len(proxy.requests) < 2 * calls  # four for each, were there no budget


@pytest.mark.parametrize("data", [b"x", MANY_PARTS], ids=["put", "multipart"])
async def test_a_store_that_is_full_says_so_and_keeps_nothing(
    s3_bucket: TestBucket, faulty: S3BlobStore, proxy: FaultyS3, data: bytes
) -> None:
    proxy.matching = lambda request: request.method == "PUT"
    proxy.error = FULL
    proxy.fail = 1_000
    with pytest.raises(StorageFull):
        await put(faulty, "b-1", data)
    assert await s3_bucket.keys() == []
    assert await s3_bucket.unfinished_uploads() == []
    proxy.fail = 0
    assert (await put(faulty, "b-1", data)).created


@pytest.mark.parametrize("data", [LONG, MANY_PARTS], ids=["put", "multipart"])
async def test_a_write_whose_answer_is_lost_was_ours(faulty: S3BlobStore, proxy: FaultyS3, data: bytes) -> None:
    proxy.matching = is_complete if data is MANY_PARTS else lambda request: request.method == "PUT"
    proxy.lose = 1
    assert (await put(faulty, "b-1", data)).created
    assert proxy.lose == 0
    assert await read(await faulty.open("b-1")) == data


async def test_a_read_that_breaks_off_goes_on_where_it_was(faulty: S3BlobStore, proxy: FaultyS3) -> None:
    await put(faulty, "b-1", LONG)
    proxy.matching = lambda request: request.headers.get("Range", "").startswith("bytes=0-")
    proxy.cut = 1
    assert await read(await faulty.open("b-1")) == LONG
    assert proxy.cut == 0


@pytest.mark.parametrize("position", [0, len(LONG) // 2, len(LONG) - 1])
async def test_bytes_that_changed_are_never_a_complete_read(
    s3_bucket: TestBucket, store: S3BlobStore, position: int
) -> None:
    await put(store, "b-1", LONG)
    where: Any = {"Bucket": s3_bucket.name, "Key": "blobs/b-1"}
    whole = bytearray(await (await s3_bucket.client.get_object(**where))["Body"].read())
    whole[position] ^= 1
    await s3_bucket.client.put_object(**where, Body=bytes(whole))
    opened = await store.open("b-1")
    received: list[bytes | memoryview] = []

    async def receive() -> None:
        async for chunk in opened.read(0, len(LONG) - 1):
            received.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(CorruptBlob):
        await receive()
    opened.close()
    assert sum(map(len, received)) < len(LONG)


async def test_a_blob_that_is_replaced_or_gone_gives_no_bytes_of_another(
    s3_bucket: TestBucket, store: S3BlobStore
) -> None:
    await put(store, "b-1", LONG)
    gone, replaced = await store.open("b-1"), await store.open("b-1")
    await store.delete("b-1")
    with pytest.raises(CorruptBlob):
        await read(gone, 5, 10)
    await put(store, "b-1", LONG[::-1])
    with pytest.raises(CorruptBlob):
        await read(replaced, 5, 10)


@pytest.mark.parametrize("body", [b"", b"no footer", b"x" * 1000])
async def test_an_object_without_a_footer_is_no_blob_but_takes_the_id(
    s3_bucket: TestBucket, store: S3BlobStore, body: bytes
) -> None:
    await s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="blobs/b-1", Body=body)
    for look in (store.open, store.stat):
        with pytest.raises(NotFound):
            await look("b-1")
    with pytest.raises(AlreadyExists):
        await put(store, "b-1", b"x")
    await store.delete("b-1")
    assert (await put(store, "b-1", b"x")).created


async def test_what_dead_writers_left_is_swept_and_what_is_being_written_is_not(
    s3_bucket: TestBucket, store: S3BlobStore
) -> None:
    async with store.stage("b-1", None) as staged:
        await staged.write(MANY_PARTS)
        assert await store.sweep_staging(3600) == 0
        assert await s3_bucket.unfinished_uploads() == ["blobs/b-1"]
        assert await store.sweep_staging(-3600) == 1
        assert await s3_bucket.unfinished_uploads() == []


async def test_a_write_that_began_long_ago_but_goes_on_is_not_swept(store: S3BlobStore) -> None:
    async with store.stage("b-1", None) as staged:
        await staged.write(MANY_PARTS[: MIN_PART_BYTES + 1])
        await asyncio.sleep(3)  # nothing but time makes it old; the store keeps whole seconds
        await staged.write(MANY_PARTS[MIN_PART_BYTES + 1 :])
        assert await store.sweep_staging(2) == 0
        await staged.digest()
        assert await staged.publish()
    assert await read(await store.open("b-1")) == MANY_PARTS


@pytest.mark.parametrize("data", [b"x", MANY_PARTS], ids=["put", "multipart"])
async def test_objects_are_encrypted_where_it_is_asked_for(s3_bucket: TestBucket, data: bytes) -> None:
    async with s3_bucket.open_store(sse="AES256") as store:
        await put(store, "b-1", data)
        assert await read(await store.open("b-1")) == data
    head = await s3_bucket.client.head_object(Bucket=s3_bucket.name, Key="blobs/b-1")
    assert head["ServerSideEncryption"] == "AES256"


async def test_a_bucket_that_is_not_there_is_no_missing_blob(s3_bucket: TestBucket) -> None:
    async with s3_bucket.open_store(bucket="no-such-bucket") as store:
        with pytest.raises(Unavailable):
            await store.stat("b-1")
        with pytest.raises(Unavailable):
            await store.check()


@pytest.mark.parametrize("data", [b"x", LONG], ids=["one PUT", "parts"])
async def test_a_store_without_conditions_is_written_once_by_one_process(s3_bucket: TestBucket, data: bytes) -> None:
    """Nothing is asked of the store here, which would else refuse what is there."""
    others = [bytes([n]) + data[1:] for n in range(4)]
    async with s3_bucket.open_store(conditional_writes=False) as store:
        answers = await asyncio.gather(*(put(store, "i-1", each) for each in others), return_exceptions=True)
        (winner,) = (n for n, answer in enumerate(answers) if not isinstance(answer, BaseException))
        assert [type(answer) for answer in answers if isinstance(answer, BaseException)] == [AlreadyExists] * 3
        assert not (await put(store, "i-1", others[winner])).created
        assert await read(await store.open("i-1")) == others[winner]
