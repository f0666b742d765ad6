"""Clients that hand in files until the time is over, cancel and delete some, and note what was acknowledged."""

import asyncio
import random
from functools import partial
from typing import Any

import httpx

from tests.soak.files import File, as_json, batch, form, raw
from tests.soak.line import AGAIN_SECONDS, Line, Send
from tests.soak.seen import CHECKSUM, NAP, OPEN, Acknowledged, Observations

WAIT_SECONDS = 5
MAX_BYTES = 200_000
# Shares: of turns in which a batch is handed in, of requests with an Idempotency-Key, of jobs that are ended early.
BATCHES, KEYED, CANCELS, DELETES = 0.1, 0.5, 0.1, 0.1
# A job is ended at some moment of its life, which is seldom longer.
LIFE_SECONDS = 2.0


class Client:
    """One owner, who hands in one thing after another."""

    def __init__(self, number: int, seed: int, http: httpx.AsyncClient, seen: Observations) -> None:
        self._number = number
        self._chance = random.Random(f"client {seed} {number}")
        self._line = Line(http, seen)
        self._http = http
        self._seen = seen
        self._files = 0

    async def hand_in(self, over: asyncio.Event) -> None:
        """Until `over`; then what is begun is brought to its end."""
        while not over.is_set():
            if self._chance.random() < BATCHES:
                await self._batch()
            else:
                await self._one()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _one(self) -> None:
        file = self._file(self._chance.choice((CHECKSUM, NAP)))
        way = self._chance.choice((as_json, raw, form))
        location = await self._made(partial(way, self._http, file), file.name, keyed=self._chance.random() < KEYED)
        if location is not None:
            job = self._acknowledged(location, file)
            await self._live_with(job)

    async def _batch(self) -> None:
        """Always with a key, and uploaded to the end: a file that never comes would be waited for."""
        files = [self._file(CHECKSUM) for _ in range(self._chance.randrange(1, 4))]
        location = await self._made(partial(batch, self._http, files), files[0].name, keyed=True)
        if location is None:
            return
        self._seen.batches += 1
        whole = await self._line.insist(partial(self._http.get, location), {200})
        if whole is None:
            return
        for file, item in zip(files, whole.json()["items"], strict=True):
            job = self._acknowledged(f"/api/v1/job/{item['id']}", file)
            await self._upload(file, job.location)
            await self._live_with(job)

    async def _upload(self, file: File, location: str) -> None:
        """Send it until the API says that it has come, which it may have although the PUT was not answered."""
        while True:
            plan = await self._line.insist(partial(self._http.get, f"{location}/upload"), {200, 409})
            if plan is None:
                return
            if plan.is_success:
                how = plan.json()
                put = partial(self._http.put, how["url"], content=file.content, headers=how["headers"])
                await self._line.once(put, {200, 201, 204})
            done = await self._line.insist(partial(self._http.post, f"{location}/upload/complete"), {200, 202, 409})
            if done is None or done.is_success:
                return

    def _file(self, processor: str) -> File:
        self._files += 1
        name = f"{self._number}-{self._files}.bin"
        return File(name, processor, self._chance.randbytes(self._chance.randrange(1, MAX_BYTES)))

    def _acknowledged(self, location: str, file: File) -> Acknowledged:
        job = Acknowledged(self._number, location, file.name, file.processor, file.sha256)
        self._seen.jobs.append(job)
        return job

    async def _made(self, post: partial[Any], key: str, *, keyed: bool) -> str | None:
        """Where the new thing is. A post without a key is sent once: when it fails nothing is known of it. One with a
        key is sent until it is answered, and then again, which makes nothing.
        """
        if not keyed:
            answer = await self._line.once(partial(post, {}), {201})
            return answer.headers["Location"] if answer else None
        send: Send = partial(post, {"Idempotency-Key": key})
        answer = await self._line.insist(send, {201}, under_way=409)
        if answer is None:
            return None
        location: str = answer.headers["Location"]
        again = await self._line.insist(send, {201}, under_way=409)
        if again is not None:
            self._seen.repeated += 1
            if again.headers["Location"] != location:
                self._seen.again.append(f"{location} was made again as {again.headers['Location']}")
        return location

    async def _live_with(self, job: Acknowledged) -> None:
        """Wait for its end for a while, so that no more comes in than is worked on; or end it first."""
        what = self._chance.random()
        if what < CANCELS + DELETES:
            await asyncio.sleep(self._chance.uniform(0, LIFE_SECONDS))
            await (self._cancel(job) if what < CANCELS else self._delete(job))
        if job.deleted is False:
            wait = partial(self._http.get, f"{job.location}/status", headers={"Prefer": f"wait={WAIT_SECONDS}"})
            self._note(job, await self._line.once(wait, {200}))

    async def _cancel(self, job: Acknowledged) -> None:
        job.cancelled = True
        self._note(job, await self._line.insist(partial(self._http.post, f"{job.location}/cancel"), {200, 202}))

    async def _delete(self, job: Acknowledged) -> None:
        job.deleted = None
        if await self._line.insist(partial(self._http.delete, job.location), {204}, repeated=404) is not None:
            job.deleted = True

    def _note(self, job: Acknowledged, answer: httpx.Response | None) -> None:
        if answer is not None and job.told is None and (status := answer.json()["status"]) not in OPEN:
            job.told = status
