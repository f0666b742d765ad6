"""Uploads to a bucket of a real S3, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from services.blob.adapters.s3.uploads import open_s3_uploads
from tests.support.s3 import TestBucket
from tests.support.uploading import Uploads


@asynccontextmanager
async def s3_uploads(bucket: TestBucket) -> AsyncIterator[Uploads]:
    async with (
        bucket.open_store() as store,
        open_s3_uploads(store, bucket.options, bucket.session) as uploads,
        httpx.AsyncClient(timeout=30, trust_env=False) as http,
    ):
        yield Uploads(uploads, store, http)
