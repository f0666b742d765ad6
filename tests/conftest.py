"""A real mongod for the whole session, and a fresh database for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.ids import new_id
from common.mongo import Client, connect
from deploy.local import mongod


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
