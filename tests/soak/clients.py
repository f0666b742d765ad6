"""Clients that hand in files until the time is over, and note what was acknowledged."""

import asyncio
import base64
import random
from collections import Counter
from dataclasses import dataclass, field

import httpx

AGAIN_SECONDS = 0.1
WAIT_SECONDS = 5
# What a client may be told while parts are away; any other refusal of a good request is a fault.
EXPECTED = frozenset({502, 503})


@dataclass(slots=True)
class Acknowledged:
    """A job that was answered with 201."""

    owner: int
    location: str
    content: bytes


@dataclass(slots=True)
class Seen:
    """What all clients saw together."""

    jobs: list[Acknowledged] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)
    broken: int = 0

    @property
    def unexpected(self) -> dict[int, int]:
        """Refusals that no fault of the plan explains, by their status."""
        return {status: count for status, count in self.refusals.items() if status not in EXPECTED}


class Client:
    """One owner, who hands in one file after another, each in one of the three bodies."""

    def __init__(self, number: int, seed: int, http: httpx.AsyncClient, seen: Seen) -> None:
        self._number = number
        self._chance = random.Random(f"client {seed} {number}")
        self._http = http
        self._seen = seen

    async def hand_in(self, over: asyncio.Event) -> None:
        """Until `over`. A post that failed is not acknowledged, and nothing is known of it."""
        while not over.is_set():
            content = self._chance.randbytes(self._chance.randrange(1, 200_000))
            try:
                answer = await self._chance.choice((self._json, self._raw, self._form))(content)
            except httpx.TransportError:
                self._seen.broken += 1
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if answer.status_code == 201:
                self._seen.jobs.append(Acknowledged(self._number, answer.headers["Location"], content))
                await self._wait_for(answer.headers["Location"])
            else:
                self._seen.refusals[answer.status_code] += 1
            await asyncio.sleep(AGAIN_SECONDS)

    async def _wait_for(self, location: str) -> None:
        """For a while, so that no more comes in than is worked on; the checker looks at it again."""
        try:
            answer = await self._http.get(f"{location}/status", headers={"Prefer": f"wait={WAIT_SECONDS}"})
        except httpx.TransportError:
            self._seen.broken += 1
        else:
            if not answer.is_success:
                self._seen.refusals[answer.status_code] += 1

    async def _json(self, content: bytes) -> httpx.Response:
        body = {
            "content": base64.b64encode(content).decode(),
            "mimetype": "application/octet-stream",
            "processor": "checksum",
        }
        return await self._http.post("/api/v1/job", json=body)

    async def _raw(self, content: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"}
        return await self._http.post("/api/v1/job?processor=checksum", content=content, headers=headers)

    async def _form(self, content: bytes) -> httpx.Response:
        file = ("file.bin", content, "application/octet-stream")
        return await self._http.post("/api/v1/job", data={"processor": "checksum"}, files={"file": file})
