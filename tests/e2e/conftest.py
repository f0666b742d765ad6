"""A Gristmill of real processes on each store, for all tests of the session."""

from collections.abc import AsyncIterator

import pytest

from tests.support.local import Local, environment, running
from tests.support.marks import long


@pytest.fixture(scope="session")
async def gristmill(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    async with running(environment(tmp_path_factory.mktemp("gristmill"))) as local:
        yield local


@pytest.fixture(scope="session")
async def gristmill_on_s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    settings = {**environment(tmp_path_factory.mktemp("gristmill-on-s3")), "BLOB_STORE": "s3"}
    async with running(settings) as local:
        yield local


@pytest.fixture(params=["gristmill", *long("gristmill_on_s3")], ids=["filesystem", "s3"])
def on_each_store(request: pytest.FixtureRequest) -> Local:
    local: Local = request.getfixturevalue(request.param)
    return local
