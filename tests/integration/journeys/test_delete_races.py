"""Cancel, delete, complete, report, recover, retire and sweep, all at once, in any order, over real stores: a job has
one end, what was deleted is never seen again, and nothing of it is left.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from common.contracts.job import Complete, OutputInfo
from common.errors import Problem
from common.ids import new_id, output_blob_id
from services.front.domain.job import Job
from tests.integration.journeys.test_cancel import until
from tests.integration.journeys.test_delete import SHA256_OF_X, assert_nothing_is_left, bytes_of, finished
from tests.integration.journeys.test_events import Front, another_front
from tests.support.manual_processor import claim, offer_checksum
from tests.support.marks import long
from tests.support.platform import Platform, open_platform
from tests.support.submitting import job_id_of, post_json, post_raw

JOBS_AT_ONCE = 6


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("races"))
    async with open_platform(
        mongodb_uri,
        f"test-{new_id()}",
        folder,
        processor=False,
        lease_seconds=0.3,
        ask_seconds=0.3,
        orphan_seconds=0.05,
    ) as platform:
        await offer_checksum(platform)
        yield platform


@pytest.fixture(scope="module")
async def other(platform: Platform) -> AsyncIterator[Front]:
    async with another_front(platform) as front:
        yield front


class Race:
    """One job, and all that is done to it; each step may come at any moment, and more than once."""

    def __init__(self, platform: Platform, fronts: list[httpx.AsyncClient], dice: random.Random) -> None:
        self.platform, self.fronts, self.dice = platform, fronts, dice
        self.job_id = ""
        self.is_deleted = False
        self.deletes: list[int] = []
        self.end: Job | None = None
        self.step: Callable[[], Awaitable[object]] = self.nothing

    async def nothing(self) -> None:
        """A run that nobody has claimed."""

    async def begin(self) -> None:
        alice = self.dice.choice(self.fronts)
        if self.dice.random() < 0.4:
            self.job_id = await finished(self.platform, alice)
            if self.dice.random() < 0.5:
                await self.platform.retire()()
            return
        self.job_id = job_id_of(await self.dice.choice([post_raw, post_json])(alice))
        if self.dice.random() < 0.7:
            await until(self.platform, alice, self.job_id, "SUBMITTED")
            run = await claim(self.platform, self.job_id)

            async def complete() -> None:
                output = OutputInfo(name="o", mimetype="text/plain", size=1, sha256=SHA256_OF_X)
                await self.platform.blob.put(output_blob_id(run.id, run.fence, 0), b"x")
                await self.platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[output]))

            self.step = complete

    async def run(self) -> None:
        steps = [self.complete, self.cancel, self.read, self.read, self.sweep, self.late, *[self.track] * 4]
        steps += [self.delete, self.delete, self.delete] if self.dice.random() < 0.8 else []
        self.dice.shuffle(steps)
        within = self.dice.choice([0.01, 0.1, 0.5])  # seconds: all at once, or some when others are done
        await asyncio.gather(*(self.later(step, within * self.dice.random()) for step in steps))

    async def later(self, step: Callable[[], Awaitable[object]], seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(Problem):  # a stale fence, or an input that is gone
            await step()
        await self.look()

    async def complete(self) -> None:
        await self.step()

    async def cancel(self) -> None:
        await self.answered(self.dice.choice(self.fronts).post(f"/api/v1/job/{self.job_id}/cancel"))

    async def read(self) -> None:
        for front in self.fronts:
            for path in ("/status", "", "/output"):
                await self.answered(front.get(f"/api/v1/job/{self.job_id}{path}"))

    async def delete(self) -> None:
        answer = await self.answered(self.dice.choice(self.fronts).delete(f"/api/v1/job/{self.job_id}"))
        self.is_deleted |= answer.status_code == 204
        self.deletes.append(answer.status_code)

    async def answered(self, request: Awaitable[httpx.Response]) -> httpx.Response:
        was_deleted = self.is_deleted
        answer = await request
        assert answer.status_code < 500
        if was_deleted:
            assert answer.status_code == 404
            assert answer.json()["type"] == "/problems/not-found"
        return answer

    async def track(self) -> None:
        await self.platform.recover()()
        await self.platform.retire()()

    async def sweep(self) -> None:
        await self.platform.sweep().blobs()

    async def late(self) -> None:
        """A front that was held up carries on what it knew."""
        job = await self.platform.core.jobs.find(self.job_id)
        assert job is not None
        await asyncio.sleep(self.dice.random() / 50)
        await self.platform.core.advance.carry_on(job)

    async def look(self) -> None:
        """Its end, once it has one, is the same for ever."""
        job = await self.platform.core.jobs.find(self.job_id)
        assert job is not None
        if self.end is not None:
            assert (job.status, job.history, job.outputs) == (self.end.status, self.end.history, self.end.outputs)
        elif job.status.is_final:
            self.end = job


@pytest.mark.parametrize("seed", [0, 1, *long(2, 3, 4)])
async def test_whatever_comes_first_it_has_one_end_and_stays_deleted(
    platform: Platform, other: Front, seed: int
) -> None:
    dice = random.Random(seed)
    races = [Race(platform, [platform.client(), other.http], dice) for _ in range(JOBS_AT_ONCE)]
    for race in races:
        await race.begin()
    async with asyncio.timeout(60):
        await asyncio.gather(*(race.run() for race in races))
    deleted = [race for race in races if race.is_deleted]
    assert deleted
    for race in deleted:
        assert sorted(race.deletes) == [204, 404, 404]
        await race.read()
    ids = [race.job_id for race in deleted]
    async with asyncio.timeout(20):
        while any([await bytes_of(platform, job_id) for job_id in ids]):
            await races[0].track()
            await races[0].sweep()
    await assert_nothing_is_left(platform, *ids)
    for race in races:
        if not race.is_deleted:
            await race.look()
            assert race.end is not None, "it was cancelled, if nothing else"
            if race.end.outputs:
                assert (await race.fronts[0].get(f"/api/v1/job/{race.job_id}/output")).content == b"x"
