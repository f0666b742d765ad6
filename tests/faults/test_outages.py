"""One side goes away in the middle of an upload, or job is away: nothing stays behind, and nothing is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from tests.support.journey import CONTENT, ENOUGH_SECONDS, RAW, assert_completes, hand_in, logged
from tests.support.local import Local, environment, running
from tests.support.marks import long
from tests.support.processes import resident_bytes, until
from tests.support.proxy import Proxy, proxied

FRONT, BLOB = "services.front", "services.blob"
PART = b"x" * 65536
HALF_BYTES = 64 * len(PART)
LEAVERS = 20


@dataclass
class Gristmill:
    """A Gristmill, and the way from front to job, which a test can spoil."""

    local: Local
    to_job: Proxy
    blobs_before: set[str] = field(default_factory=set)

    def staged_bytes(self) -> int:
        """How much of uploads that haven't ended blob has on its disk."""
        size = 0
        for path in (self.local.data / "blobs" / "staging").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                size += path.stat().st_size
        return size

    async def blobs(self) -> set[str]:
        async with self.local.blob() as blob:
            return {item.id for item in (await blob.list()).items}

    async def assert_nothing_stays(self) -> None:
        """No half of an upload, seen or unseen."""
        await until(lambda: self.staged_bytes() == 0)
        assert await self.blobs() <= self.blobs_before

    def resident(self) -> dict[str, int]:
        pids = {name: self.local.pid_of(name) for name in (FRONT, BLOB)}
        return {name: resident_bytes(pid) for name, pid in pids.items() if pid is not None}


@pytest.fixture(scope="module")
async def started(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gristmill]:
    settings = environment(tmp_path_factory.mktemp("faults"))
    async with (
        proxied(int(settings["JOB_PORT"])) as to_job,
        running({**settings, "FRONT_JOB_URL": to_job.url}) as local,
    ):
        yield Gristmill(local, to_job)


@pytest.fixture
async def gristmill(started: Gristmill) -> AsyncIterator[Gristmill]:
    async with started.local.client() as http:
        # Front knows the processors by then, and need not ask job for them.
        await assert_completes(http, await hand_in(http))
        started.blobs_before = await started.blobs()
        yield started


@dataclass
class HalfUpload:
    """An upload of which half has reached blob when it is entered."""

    http: httpx.AsyncClient
    gristmill: Gristmill
    declared: bool = False
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def begun(self) -> asyncio.Task[httpx.Response]:
        length = {"Content-Length": str(2 * HALF_BYTES)} if self.declared else {}
        post = asyncio.create_task(
            self.http.post("/api/v1/job?processor=checksum", content=self._body(), headers={**RAW, **length})
        )
        await until(lambda: self.gristmill.staged_bytes() == HALF_BYTES)
        return post

    async def _body(self) -> AsyncIterator[bytes]:
        for _ in range(HALF_BYTES // len(PART)):
            yield PART
        await self.goes_on.wait()
        for _ in range(HALF_BYTES // len(PART)):
            yield PART


@pytest.mark.long
async def test_fault_03_front_killed_in_the_middle_of_a_raw_upload(gristmill: Gristmill) -> None:
    async with gristmill.local.client(subject="uploader") as http, asyncio.timeout(ENOUGH_SECONDS):
        upload = HalfUpload(http, gristmill)
        post = await upload.begun()
        await gristmill.local.kill(FRONT)
        upload.goes_on.set()
        with pytest.raises(httpx.TransportError):
            await post
        await gristmill.assert_nothing_stays()
        await assert_completes(http, await hand_in(http))
        assert len((await http.get("/api/v1/job")).json()["items"]) == 1


@pytest.mark.long
async def test_fault_25_the_client_goes_away_in_the_middle_of_an_upload(gristmill: Gristmill) -> None:
    async def leave(number: int) -> None:
        async with gristmill.local.client(subject="leaver") as http, asyncio.timeout(ENOUGH_SECONDS):
            post = await HalfUpload(http, gristmill, declared=number % 2 == 0).begun()
            post.cancel()
            with pytest.raises(asyncio.CancelledError):
                await post
            await gristmill.assert_nothing_stays()

    await leave(0)
    before = gristmill.resident()
    for number in range(LEAVERS):
        await leave(number)
    grown = {name: after - before[name] for name, after in gristmill.resident().items()}
    assert max(grown.values()) < LEAVERS * HALF_BYTES / 4, grown
    async with gristmill.local.client(subject="leaver") as http:
        assert (await http.get("/api/v1/job")).raise_for_status().json()["items"] == []


@pytest.mark.parametrize("how", long("refusing", "stalled"))
async def test_fault_22_job_down_while_a_post_comes(gristmill: Gristmill, how: str) -> None:
    async with gristmill.local.client() as http, asyncio.timeout(ENOUGH_SECONDS):
        setattr(gristmill.to_job, how, True)
        gristmill.to_job.reset()
        try:
            posted = await http.post("/api/v1/job?processor=checksum", content=CONTENT, headers=RAW)
            assert posted.status_code == 201, posted.text
            location = posted.headers["Location"]
            seen = (await http.get(f"{location}/status")).raise_for_status().json()
            assert (seen["status"], seen["stale"]) == ("STORED", True)
            # Until then front itself tries again, and could be in time.
            await logged(gristmill.local, "front", "job.left_to_tracker", job=location.rpartition("/")[2])
        finally:
            setattr(gristmill.to_job, how, False)
        await logged(gristmill.local, "tracker", "recover.carried_on", job=location.rpartition("/")[2])
        await assert_completes(http, location)
        assert "stale" not in (await http.get(f"{location}/status")).json()
