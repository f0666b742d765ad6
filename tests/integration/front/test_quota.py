"""Nobody keeps more bytes than they may: what is too much is refused before it is taken, in each kind of request."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.platform import Platform, open_platform
from tests.support.submitting import job_id_of

QUOTA, TENANT_QUOTA = 100_000, 150_000
LARGE, SMALL = bytes(60_000), b"x"
TEXT = {"Content-Type": "application/octet-stream"}
PATH = "/api/v1/job?processor=checksum"


@pytest.fixture
async def platform(mongodb_uri: str, database_name: str, tmp_path: Path) -> AsyncIterator[Platform]:
    with pytest.MonkeyPatch.context() as always:
        always.setattr("services.front.use_cases.quota.FRESH_SECONDS", 0)
        settings: dict[str, Any] = {"quota_bytes": QUOTA, "tenant_quota_bytes": TENANT_QUOTA}
        async with open_platform(mongodb_uri, database_name, tmp_path, keep_inputs=True, **settings) as platform:
            yield platform


async def undeclared(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 10_000):
        yield data[start : start + 10_000]


async def every_kind(client: httpx.AsyncClient, data: bytes) -> list[httpx.Response]:
    """The responses to each way to hand in a file of so many bytes."""
    text = "A" * (4 * len(data) // 3)
    return [
        await client.post(PATH, content=data, headers=TEXT),
        await client.post(PATH, content=undeclared(data), headers=TEXT),
        await client.post(
            "/api/v1/job", data={"processor": "checksum"}, files={"file": ("a", data, TEXT["Content-Type"])}
        ),
        await client.post(
            "/api/v1/job",
            json={"processor": "checksum", "mimetype": TEXT["Content-Type"], "encoding": "base64", "content": text},
        ),
        await client.post(
            "/api/v1/batch",
            json={
                "processor": "checksum",
                "files": [{"name": "a", "size": len(data) // 2, "mimetype": TEXT["Content-Type"]}] * 2,
            },
        ),
    ]


async def test_an_owner_keeps_what_they_may_and_the_rest_is_refused(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await alice.post(PATH, content=LARGE, headers=TEXT))
    final = await platform.final(alice, job_id)
    kept = len(LARGE) + sum(output["size"] for output in final["outputs"])
    blobs = {item.id for item in (await platform.blob.list()).items}
    for refused in await every_kind(alice, LARGE):
        assert (refused.status_code, refused.json()["type"]) == (507, "/problems/storage-full"), refused.text
        assert f"You keep {kept} of at most {QUOTA} bytes" in refused.json()["detail"]
    assert {item.id for item in (await platform.blob.list()).items} == blobs
    assert {answer.status_code for answer in await every_kind(alice, SMALL * 6)} == {201}


async def test_a_tenant_keeps_what_it_may_and_nobody_hears_of_the_others(platform: Platform) -> None:
    for subject in ("alice", "bob"):
        assert (await platform.client("acme", subject).post(PATH, content=LARGE, headers=TEXT)).status_code == 201
    for refused in await every_kind(platform.client("acme", "carol"), LARGE):
        assert refused.status_code == 507
        assert str(TENANT_QUOTA) in refused.json()["detail"]
        assert str(2 * len(LARGE)) not in refused.json()["detail"]
    assert (await platform.client("other", "carol").post(PATH, content=LARGE, headers=TEXT)).status_code == 201


async def test_what_is_deleted_is_room_again(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await alice.post(PATH, content=LARGE, headers=TEXT))
    await platform.final(alice, job_id)
    assert (await alice.post(PATH, content=LARGE, headers=TEXT)).status_code == 507
    await alice.delete(f"/api/v1/job/{job_id}")
    assert (await alice.post(PATH, content=LARGE, headers=TEXT)).status_code == 201


async def test_an_input_that_goes_after_its_run_is_room_again(platform: Platform) -> None:
    alice = platform.client()
    final = await platform.final(alice, job_id_of(await alice.post(PATH, content=LARGE, headers=TEXT)))
    await platform.retire(keep_inputs=False)()
    told = (await alice.get("/api/v1/processor")).json()
    assert told["storedBytes"] == sum(output["size"] for output in final["outputs"])
    assert (told["limits"]["quotaBytes"], told["limits"]["tenantQuotaBytes"]) == (QUOTA, TENANT_QUOTA)


async def test_an_announced_file_takes_room_until_it_never_comes(platform: Platform) -> None:
    alice = platform.client()
    file = {"name": "a", "size": len(LARGE), "mimetype": TEXT["Content-Type"]}
    announced = await alice.post("/api/v1/batch", json={"processor": "checksum", "files": [file]})
    assert (await alice.post(PATH, content=LARGE, headers=TEXT)).status_code == 507
    await alice.post(f"/api/v1/job/{job_id_of(announced)}/cancel")
    await platform.retire()()
    assert (await alice.post(PATH, content=LARGE, headers=TEXT)).status_code == 201
