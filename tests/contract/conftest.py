"""Stores of runs on the bench. And a real S3 for the session, a bucket for each module, and that bucket empty for each
test.
"""

import secrets
from collections.abc import AsyncIterator

import pytest

from common.ids import new_id
from common.mongo import Client
from deploy.local import seaweed
from deploy.local.mongod import free_port
from deploy.local.seaweed import Seaweed
from services.blob.adapters.s3_bucket import open_client
from services.job.adapters.mongodb import JobDatabase
from tests.contract.run_bench import Bench
from tests.contract.s3 import TestBucket, options_for, session_for
from tests.fakes.run_store import FakeRunStore


@pytest.fixture(params=["fake", "mongodb"])
async def bench(request: pytest.FixtureRequest, mongodb: Client, database_name: str) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield Bench(FakeRunStore())
    else:
        database = JobDatabase(mongodb, database_name)
        await database.create_indexes()
        yield Bench(database.runs)


@pytest.fixture(scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seaweed]:
    described = Seaweed(tmp_path_factory.mktemp("seaweed"), free_port(), secrets.token_urlsafe())
    process = await seaweed.start(described)
    yield described
    process.kill()
    await process.wait()


@pytest.fixture(scope="module")
async def s3_module_bucket(s3: Seaweed) -> AsyncIterator[TestBucket]:
    options, session = options_for(s3, f"test-{new_id()}"), session_for(s3)
    async with open_client(options, options.endpoint, session) as client:
        await client.create_bucket(Bucket=options.bucket)
        bucket = TestBucket(client, session, options)
        yield bucket
        await bucket.empty()
        await client.delete_bucket(Bucket=options.bucket)


@pytest.fixture
async def s3_bucket(s3_module_bucket: TestBucket) -> AsyncIterator[TestBucket]:
    yield s3_module_bucket
    await s3_module_bucket.empty()
