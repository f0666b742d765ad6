"""Buckets of a real S3 for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aioboto3

from deploy.local.seaweed import ACCESS_KEY, REGION, Seaweed
from services.blob.adapters.s3.bucket import S3Options
from services.blob.adapters.s3.store import S3BlobStore, open_s3_store

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


def session_for(seaweed: Seaweed) -> aioboto3.Session:
    return aioboto3.Session(ACCESS_KEY, seaweed.secret)


@dataclass(frozen=True)
class TestBucket:
    """A bucket, and a client of the tests' own for looking into it."""

    __test__ = False

    client: "S3Client"
    session: aioboto3.Session
    options: S3Options

    @property
    def name(self) -> str:
        return self.options.bucket

    @asynccontextmanager
    async def open_store(self, **changes: Any) -> AsyncIterator[S3BlobStore]:
        options = replace(self.options, **changes)
        async with open_s3_store(options, max_blob_bytes=2**35, session=self.session) as store:
            yield store

    async def unfinished_uploads(self) -> list[str]:
        answer = await self.client.list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    async def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] async for page in pages for item in page.get("Contents", [])]

    async def empty(self) -> None:
        for key in await self.keys():
            await self.client.delete_object(Bucket=self.name, Key=key)
        for upload in (await self.client.list_multipart_uploads(Bucket=self.name)).get("Uploads", []):
            await self.client.abort_multipart_upload(Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"])


def options_for(seaweed: Seaweed, bucket: str) -> S3Options:
    return S3Options(bucket=bucket, region=REGION, endpoint=seaweed.endpoint)
