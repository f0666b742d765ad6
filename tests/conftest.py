"""For the session a real mongod and a real S3, each started when a test asks for it.

A database is fresh for each test; a bucket is made for each module, and emptied after each test.
"""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from common.ids import new_id
from common.mongo.client import Client, connect
from deploy.local import mongod, seaweed
from deploy.local.mongod import free_port
from deploy.local.seaweed import Seaweed
from services.blob.adapters.s3.bucket import open_client
from tests.support.s3 import TestBucket, options_for, session_for

# The same examples in each run: a fault that is found is found again.
hypothesis.settings.register_profile("gristmill", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("gristmill")

# A traceback with all locals, which is what structlog draws by default, takes a minute of an application's.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
async def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    port = mongod.free_port()
    process = await mongod.start(Path(tmp_path_factory.mktemp("mongod")), port)
    yield mongod.uri(port)
    process.kill()
    await process.wait()


@pytest.fixture(scope="session")
async def mongodb(mongodb_uri: str) -> AsyncIterator[Client]:
    async with connect(mongodb_uri) as client:
        yield client


@pytest.fixture
async def database_name(mongodb: Client) -> AsyncIterator[str]:
    name = f"test-{new_id()}"
    yield name
    await mongodb.drop_database(name)


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


@pytest.fixture(scope="module", params=["filesystem", "s3"])
def each_store(request: pytest.FixtureRequest) -> TestBucket | None:
    """Where a platform keeps blobs: None is a folder."""
    if request.param == "filesystem":
        return None
    bucket: TestBucket = request.getfixturevalue("s3_module_bucket")
    return bucket
