"""What only uploads to S3 can be put through: a process that dies between steps, two at once, its limits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from common.errors import Invalid, NotFound
from services.blob.adapters.s3.labels import MAX_LABEL_BYTES, labels
from services.blob.adapters.s3.store import S3BlobStore
from services.blob.adapters.s3.uploads import MAX_URL_SECONDS, open_s3_uploads
from services.blob.ports import StoredBlob
from tests.support.s3 import TestBucket
from tests.support.s3_uploading import s3_uploads
from tests.support.uploading import LONG, SHORT, Uploads, facts_of

LABELS = ("tenant", "subject", "name", "media_type")


@pytest.fixture
async def uploads(s3_bucket: TestBucket) -> AsyncIterator[Uploads]:
    async with s3_uploads(s3_bucket) as opened:
        yield opened


async def nothing_is_left(bucket: TestBucket, upload_id: str) -> None:
    """The blob is there before what it was made of is gone."""

    async def left() -> list[str]:
        objects = await bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=f"uploads/{upload_id}")
        sizes = [item["Key"] for item in objects.get("Contents", []) if item["Size"]]
        return sizes + await bucket.unfinished_uploads()

    async with asyncio.timeout(30):
        while await left():  # noqa: ASYNC110 - a store tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_the_object_says_who_sent_it(uploads: Uploads, s3_bucket: TestBucket, data: bytes) -> None:
    facts = facts_of(data)
    await uploads.ended(facts, await uploads.send_all(facts, data))
    metadata = (await s3_bucket.client.head_object(Bucket=s3_bucket.name, Key=f"blobs/{facts.id}"))["Metadata"]
    told = {key: unquote(metadata[key]) for key in ("tenant", "subject", "name", "media-type")}
    expected = (facts.tenant, facts.subject, facts.name, facts.media_type)
    assert tuple(told.values()) == expected
    assert metadata["uploaded"]


def test_labels_fit_into_an_objects_metadata() -> None:
    facts = facts_of(SHORT).model_copy(update=dict.fromkeys(LABELS, "\U0001f600" * 250))
    assert sum(len(key) + len(value) for key, value in labels(facts).items()) < 2048 - 100
    assert all(unquote(value, errors="strict") for value in labels(facts).values())
    assert all(len(value) <= MAX_LABEL_BYTES and value.isascii() for value in labels(facts).values())


async def test_urls_lead_to_the_public_endpoint_and_last_seven_days_at_most(s3_bucket: TestBucket) -> None:
    options = replace(s3_bucket.options, public_endpoint="https://files.example.org")
    async with s3_uploads(replace(s3_bucket, options=options)) as uploads:
        for data in (SHORT, LONG):
            plan = await uploads.plan(facts_of(data), expiresIn=2 * MAX_URL_SECONDS)
            for url in (plan.url, *(part.url for part in plan.parts)):
                assert url is None or url.startswith("https://files.example.org/")
            assert plan.expires_at.timestamp() <= time.time() + MAX_URL_SECONDS


async def test_what_a_process_left_after_joining_the_parts_is_finished_by_the_next(
    uploads: Uploads, s3_bucket: TestBucket
) -> None:
    facts = facts_of(LONG)
    await uploads.send_all(facts, LONG)
    key = f"uploads/{facts.id}"
    (upload,) = (await s3_bucket.client.list_multipart_uploads(Bucket=s3_bucket.name))["Uploads"]
    listed = await s3_bucket.client.list_parts(Bucket=s3_bucket.name, Key=key, UploadId=upload["UploadId"])
    await s3_bucket.client.complete_multipart_upload(
        Bucket=s3_bucket.name,
        Key=key,
        UploadId=upload["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": p["PartNumber"], "ETag": p["ETag"]} for p in listed["Parts"]]},
    )
    assert await uploads.is_absent(facts)
    assert (await uploads.ended(facts)).state == "COMPLETE"
    assert await uploads.read(facts) == LONG
    await nothing_is_left(s3_bucket, facts.id)


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_processes_that_finish_one_upload_at_once_agree(s3_bucket: TestBucket, data: bytes) -> None:
    async with AsyncExitStack() as stack:
        several = [await stack.enter_async_context(s3_uploads(s3_bucket)) for _ in range(3)]
        facts = facts_of(data)
        await several[0].send_all(facts, data)
        ended = await asyncio.gather(*(each.ended(facts) for each in several))
        assert {status.state for status in ended} == {"COMPLETE"}
        assert await several[0].read(facts) == data
        await nothing_is_left(s3_bucket, facts.id)


class LooksTooEarly:
    """A store of which one look for a blob is answered only when another process has made the blob."""

    def __init__(self, store: S3BlobStore, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._store = store
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def stat(self, blob_id: str) -> StoredBlob:
        if meanwhile := self._meanwhile:
            self._meanwhile = None
            await meanwhile()
            raise NotFound
        return await self._store.stat(blob_id)


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_an_upload_that_another_process_finishes_meanwhile_is_never_said_to_be_open(
    s3_bucket: TestBucket, data: bytes
) -> None:
    async with s3_uploads(s3_bucket) as other, s3_bucket.open_store() as store:
        facts = facts_of(data)
        await other.send_all(facts, data)
        early: Any = LooksTooEarly(store, lambda: other.ended(facts))
        async with open_s3_uploads(early, s3_bucket.options, s3_bucket.session) as uploads:
            assert (await uploads.status(facts)).state == "COMPLETE"


async def test_plans_made_at_once_are_of_one_upload(uploads: Uploads, s3_bucket: TestBucket) -> None:
    facts = facts_of(LONG)
    plans = await asyncio.gather(*(uploads.plan(facts) for _ in range(4)))
    first = await uploads.plan(facts)
    parts = [await uploads.send_part(first, LONG, part.number) for part in first.parts]
    assert (await uploads.ended(facts, parts)).state == "COMPLETE"
    assert {plan.state for plan in plans} == {"OPEN"}
    await nothing_is_left(s3_bucket, facts.id)


async def test_of_a_part_sent_twice_at_once_the_one_told_of_counts_or_none(
    uploads: Uploads,
) -> None:
    for _ in range(4):  # which of the two is listed last is the store's chance
        facts = facts_of(LONG)
        plan = await uploads.plan(facts)
        await uploads.send_part(plan, bytes(len(LONG)), 2)
        parts = [await uploads.send_part(plan, LONG, number) for number in (2, 1, 3, 4)]
        asked = await uploads.plan(facts)
        if [part.number for part in asked.parts if part.url]:
            assert (await uploads.store.status(facts)).state == "OPEN"
        status = await uploads.ended(facts, sorted(parts, key=lambda part: part.number))
        assert status.state == "COMPLETE"
        assert await uploads.read(facts) == LONG


async def test_other_parts_than_those_that_arrived_are_refused(uploads: Uploads) -> None:
    facts = facts_of(LONG)
    parts = await uploads.send_all(facts, LONG)
    with pytest.raises(Invalid):
        await uploads.store.complete(facts, [*parts[:3], parts[0].model_copy(update={"number": 4})])
    assert await uploads.is_absent(facts)


async def test_nothing_under_blobs_is_written_before_it_is_verified(uploads: Uploads, s3_bucket: TestBucket) -> None:
    facts = facts_of(SHORT, announced=b"something else")
    await uploads.send_all(facts, SHORT)
    assert await s3_bucket.keys() == [f"uploads/{facts.id}"]
    assert (await uploads.ended(facts)).state == "MISMATCH"
    head = await s3_bucket.client.head_object(Bucket=s3_bucket.name, Key=f"uploads/{facts.id}")
    assert head["ContentLength"] == 0


@pytest.mark.parametrize("header", ["if-none-match", "x-amz-meta-tenant"])
async def test_what_was_signed_can_be_neither_left_out_nor_changed(
    uploads: Uploads, s3_bucket: TestBucket, header: str
) -> None:
    plan = await uploads.plan(facts_of(SHORT))
    assert plan.url
    headers = {key.lower(): value for key, value in plan.headers.items()}
    without = {key: value for key, value in headers.items() if key != header}
    for sent in (without, {**headers, header: "other"}):
        assert (await uploads.http.put(plan.url, content=SHORT, headers=sent)).status_code == 403
    assert await s3_bucket.keys() == []
