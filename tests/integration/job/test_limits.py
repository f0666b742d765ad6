"""What an operator grants to tenants, from the environment to the response."""

import pytest

from common.errors import TooManyRequests
from common.mongo.client import Client
from common.settings import load
from services.job.domain.tenants import Tenant
from services.job.settings import Settings
from tests.support.job_service import a_claim, a_job, a_run

REQUIRED = {"MONGODB_URI": "x", "FRONT_URL": "x", "KEY_FILE": "x", "CALLERS_DIR": "x"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(f"JOB_{name}", value)
    return monkeypatch


def test_what_is_not_said_of_a_tenant_is_as_for_all_others(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("JOB_TENANTS", '{"acme": {"weight": 2, "maxRunning": 10}, "ours": {"maxQueued": null}}')
    environment.setenv("JOB_MAX_QUEUED_PER_TENANT", "500")
    tenants = load(Settings).every_tenant()
    assert tenants.of("acme") == Tenant(weight=2, max_running=10, max_queued=500)
    assert tenants.of("ours") == Tenant(weight=1, max_running=None, max_queued=None)
    assert tenants.of("anybody") == Tenant(weight=1, max_running=None, max_queued=500)


@pytest.mark.parametrize("wrong", ['{"acme": {"weight": 0}}', '{"acme": {"maxRuning": 1}}', "acme", '{"acme": 2}'])
def test_a_wrong_setting_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    environment.setenv("JOB_TENANTS", wrong)
    with pytest.raises(SystemExit):
        load(Settings)
    assert capsys.readouterr().err.startswith("JOB_TENANTS")


async def test_a_run_too_many_is_answered_429_and_leaves_nothing(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name, max_queued_per_tenant=2) as job:
        await job.becomes_ready()
        first, _ = await job.submit(), await job.submit()
        refused = a_run()
        with pytest.raises(TooManyRequests):
            await job.front.submit(refused)
        assert await job.front.statuses([refused.id]) == {}
        await job.front.submit(first)
        await job.claim(limit=2)
        assert await job.front.statuses([refused.id]) == {}


async def test_a_tenant_at_its_limit_waits_for_its_own_runs(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name, tenants={"acme": Tenant(max_running=1)}) as job:
        await job.becomes_ready()
        runs = [await job.submit(), await job.submit()]
        (claimed,) = await job.processor.claim(a_claim(limit=5))
        assert claimed.id == runs[0].id
        assert await job.processor.claim(a_claim(limit=5)) == []
