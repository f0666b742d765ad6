"""Stores of runs on the bench, and what a folder of blobs may be encrypted under."""

from collections.abc import AsyncIterator

import pytest

from common.mongo.client import Client
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.job.adapters.mongodb.database import JobDatabase
from tests.fakes.keys import master_keys
from tests.fakes.run_store import FakeRunStore
from tests.support.run_bench import Bench


@pytest.fixture(params=["fake", "mongodb"])
async def bench(request: pytest.FixtureRequest, mongodb: Client, database_name: str) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield Bench(FakeRunStore())
    else:
        database = JobDatabase(mongodb, database_name)
        await database.create_indexes()
        yield Bench(database.runs)


@pytest.fixture(params=[(), ("2025", "2026")], ids=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> MasterKeys:
    return master_keys(*request.param)
