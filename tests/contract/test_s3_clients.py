"""What we keep on S3 and take from it, seen by clients that aren't ours: boto3, and curl with a signed URL."""

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from common.contracts.upload import UploadFacts, UploadPlan
from deploy.local.seaweed import ACCESS_KEY, Seaweed
from services.blob.adapters.footer import FOOTER_BYTES, unpack_footer
from services.blob.domain.uploads import PART_BYTES
from tests.contract.test_blob_store import put
from tests.support.curl import curl, header_options
from tests.support.s3 import TestBucket
from tests.support.s3_uploading import s3_uploads
from tests.support.uploading import LONG, SHORT, Uploads, facts_of, part_of


@pytest.fixture
def client(s3: Seaweed, s3_bucket: TestBucket) -> Iterator[Any]:
    """boto3's own client, made as any user of S3 makes one."""
    made = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3_bucket.options.region,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=s3.secret,
        config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
    )
    yield made
    made.close()


@pytest.fixture
async def uploads(s3_bucket: TestBucket) -> AsyncIterator[Uploads]:
    async with s3_uploads(s3_bucket) as opened:
        yield opened


async def fetched(client: Any, bucket: TestBucket, key: str) -> tuple[dict[str, Any], bytes]:
    """A whole object by boto3, with what S3 says of it."""

    def fetch() -> tuple[dict[str, Any], bytes]:
        answer = client.get_object(Bucket=bucket.name, Key=key)
        return answer, answer["Body"].read()

    return await asyncio.to_thread(fetch)


def check_blob(content: bytes, data: bytes) -> None:
    """An object is the file, and then the footer of decision 0006, which says the file's size and digest."""
    assert hashlib.sha256(content[:-FOOTER_BYTES]).digest() == hashlib.sha256(data).digest()
    footer = unpack_footer(content[-FOOTER_BYTES:], len(content))
    assert footer is not None
    assert (footer.size, footer.sha256) == (len(data), hashlib.sha256(data).digest())


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["put", "multipart"])
async def test_boto3_reads_what_blob_wrote(client: Any, s3_bucket: TestBucket, data: bytes) -> None:
    async with s3_bucket.open_store(sse="AES256") as store:
        await put(store, "b-1", data)
    answer, content = await fetched(client, s3_bucket, "blobs/b-1")
    check_blob(content, data)
    assert answer["ContentLength"] == len(data) + FOOTER_BYTES
    assert (answer["ContentType"], answer["ServerSideEncryption"]) == ("application/octet-stream", "AES256")


async def put_by_curl(plan: UploadPlan, url: str | None, body: bytes) -> None:
    options = [*header_options(plan.headers), "-H", "Content-Type:", "--data-binary", "@-"]
    answer = await curl("-X", plan.method, *options, url or "", stdin=body)
    assert answer.status == 200, answer.body


async def sent_by_curl(uploads: Uploads, data: bytes) -> UploadFacts:
    facts = facts_of(data)
    plan = await uploads.plan(facts)
    urls = [(part.number, part.url) for part in plan.parts] or [(1, plan.url)]
    await asyncio.gather(*(put_by_curl(plan, url, part_of(data, number)) for number, url in reversed(urls)))
    return facts


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["single", "multipart"])
async def test_boto3_reads_what_curl_sent_and_who_sent_it(
    client: Any, uploads: Uploads, s3_bucket: TestBucket, data: bytes
) -> None:
    facts = await sent_by_curl(uploads, data)
    status = await uploads.ended(facts)
    assert (status.state, status.sha256) == ("COMPLETE", hashlib.sha256(data).hexdigest())
    answer, content = await fetched(client, s3_bucket, f"blobs/{facts.id}")
    check_blob(content, data)
    metadata = {key: unquote(value) for key, value in answer["Metadata"].items()}
    assert (metadata["tenant"], metadata["subject"]) == (facts.tenant, facts.subject)
    assert (metadata["name"], metadata["media-type"]) == (facts.name, facts.media_type)
    assert metadata["uploaded"]


async def test_boto3_and_curl_send_parts_of_one_upload(client: Any, uploads: Uploads, s3_bucket: TestBucket) -> None:
    facts = facts_of(LONG)
    plan = await uploads.plan(facts)
    where = {"Bucket": s3_bucket.name, "Key": f"uploads/{facts.id}"}

    def send(number: int) -> None:
        """With S3's own checksum, over the API rather than a signed URL."""
        (upload,) = client.list_multipart_uploads(Bucket=s3_bucket.name)["Uploads"]
        body = part_of(LONG, number)
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        client.upload_part(**where, UploadId=upload["UploadId"], PartNumber=number, Body=body, ChecksumSHA256=checksum)

    for number in (1, 3):
        await asyncio.to_thread(send, number)
    later = await uploads.plan(facts)
    assert [part.number for part in later.parts if part.received] == [1, 3]
    for number in (2, 4):
        await put_by_curl(plan, plan.parts[number - 1].url, part_of(LONG, number))
    assert (await uploads.ended(facts)).state == "COMPLETE"
    assert await uploads.read(facts) == LONG


async def test_what_boto3s_own_multipart_left_is_verified_like_any_upload(
    client: Any, uploads: Uploads, s3_bucket: TestBucket
) -> None:
    right, wrong = facts_of(LONG), facts_of(LONG, announced=b"else")
    config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
    for facts in (right, wrong):
        key = f"uploads/{facts.id}"
        await asyncio.to_thread(client.upload_fileobj, io.BytesIO(LONG), s3_bucket.name, key, Config=config)
    assert [(await uploads.ended(facts)).state for facts in (right, wrong)] == ["COMPLETE", "MISMATCH"]
    _, content = await fetched(client, s3_bucket, f"blobs/{right.id}")
    check_blob(content, LONG)
    assert await uploads.is_absent(wrong)
