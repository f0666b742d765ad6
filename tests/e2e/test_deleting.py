"""A job is deleted whatever it is doing, over real processes: nobody sees it any more, and blob has nothing of it."""

import asyncio
from pathlib import Path

import httpx
import pytest

from common.clients.blob import BlobClient
from tests.support.journey import crashing, ended, hand_in, stopped
from tests.support.processes import until

pytestmark = pytest.mark.long

SOON = {"FRONT_ORPHAN_SECONDS": "1", "FRONT_SWEEP_SECONDS": "1", "FRONT_LEASE_SECONDS": "1"}
BATCH = {
    "processor": "checksum",
    "files": [{"name": f"{n}.txt", "size": 4, "mimetype": "text/plain"} for n in range(2)],
}


async def blobs_of(blob: BlobClient, *locations: str) -> set[str]:
    ids = tuple(location.rpartition("/")[2] for location in locations)
    found: set[str] = set()
    after = ""
    while True:
        page = await blob.list(after=after)
        found |= {item.id for item in page.items if any(job_id in item.id for job_id in ids)}
        if page.next is None:
            return found
        after = page.next


async def delete(http: httpx.AsyncClient, location: str) -> None:
    answer = await http.delete(location)
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/status", "/output", "/events"):
        assert (await http.get(f"{location}{path}")).status_code == 404
    assert (await http.delete(location)).status_code == 404


async def test_whatever_it_is_doing_nothing_of_it_is_left(tmp_path: Path) -> None:
    async with (
        crashing("processor.uploaded", tmp_path, **SOON) as (local, mark),
        local.client() as http,
        local.blob() as blob,
    ):
        running = await hand_in(http)
        await until(mark.exists)
        assert {blob_id[0] for blob_id in await blobs_of(blob, running)} == {"i", "o"}, (
            "an output that job doesn't know"
        )
        await delete(http, running)

        final = await hand_in(http)
        await ended(http, final)
        await delete(http, final)

        with stopped(local, "services.processor"):
            queued = [await hand_in(http) for _ in range(3)]
            for location in queued:
                await delete(http, location)

        batch = (await http.post("/api/v1/batch", json=BATCH)).raise_for_status().json()
        files = [f"/api/v1/job/{item['id']}" for item in batch["items"]]
        await delete(http, files[0])
        upload = batch["items"][1]["upload"]
        async with httpx.AsyncClient(trust_env=False) as line:
            sent = await line.request(upload["method"], upload["url"], content=b"four", headers=upload["headers"])
            assert sent.is_success
        assert (await ended(http, files[1]))["status"] == "EXECUTION_COMPLETED"
        assert (await http.get(f"/api/v1/batch/{batch['id']}")).json()["counts"] == {"EXECUTION_COMPLETED": 1}
        await delete(http, files[1])
        assert (await http.get(f"/api/v1/batch/{batch['id']}")).status_code == 404

        while await blobs_of(blob, running, final, *queued, *files):  # noqa: ASYNC110 - it shows by asking alone
            await asyncio.sleep(0.1)
        assert (await http.get("/api/v1/job")).json()["items"] == []
