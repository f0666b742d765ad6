"""A real mongod and a real S3, one of each for all workers.

A database is fresh for each test; a bucket is made for each module, and emptied after each test.
"""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from xdist.scheduler import LoadFileScheduling

from common.ids import new_id
from common.mongo.client import Client, connect
from deploy.local import mongod, seaweed
from deploy.local.mongod import free_port
from deploy.local.seaweed import Seaweed
from services.blob.adapters.s3.bucket import open_client
from tests.support.s3 import TestBucket, options_for, session_for
from tests.support.shared import Shared, s3_of

SHARED = pytest.StashKey[Shared]()
ON_THE_SHARED_GRISTMILL = {
    f"tests/e2e/test_{name}.py"
    for name in (
        "compression",
        "docs_in_browser",
        "doors",
        "journey",
        "readme",
        "running",
        "smoke",
        "upload_resuming",
    )
}
"""Those whose tests share the fixture `gristmill`, or the one on S3."""

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


class ByPlatform(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """The tests of a file go to one worker, and so do all files whose tests share a running Gristmill.

    xdist's own groups would do, but 3.8 doesn't see them under pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/e2e" if file in ON_THE_SHARED_GRISTMILL else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlatform:
    return ByPlatform(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Where there are workers, they share one mongod and one S3."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        shared = Shared()
        config.stash[SHARED] = shared
        config.add_cleanup(shared.stop)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker their addresses."""
    node.workerinput["shared"] = node.config.stash[SHARED].addresses()


@pytest.fixture(scope="session")
async def mongodb_uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    if given := _given(request.config):
        yield given["mongodb_uri"]
        return
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
async def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seaweed]:
    if given := _given(request.config):
        yield s3_of(given)
        return
    described = Seaweed(tmp_path_factory.mktemp("seaweed"), free_port(), secrets.token_urlsafe())
    process = await seaweed.start(described)
    yield described
    process.kill()
    await process.wait()


def _given(config: pytest.Config) -> dict[str, Any] | None:
    """What the process that started this worker has given it."""
    given: dict[str, Any] | None = getattr(config, "workerinput", {}).get("shared")
    return given


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
