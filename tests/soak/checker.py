"""Proves, by the public API alone, what must be true of each job that was acknowledged."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.soak.clients import Acknowledged

AGAIN_SECONDS = 0.1
AT_ONCE = 8
OPEN = frozenset({"CREATED", "STORED", "SUBMITTED"})


@dataclass(slots=True)
class Verdict:
    """How many jobs came to their end as they must, and the sentences about those that did not."""

    completed: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.lost, *self.wrong, *self.leaked]


async def check(jobs: Sequence[Acknowledged], clients: Sequence[httpx.AsyncClient], seconds: float) -> Verdict:
    """Waits until each job is final, for `seconds` in all; then looks at its outputs, and at it with a stranger's eyes.

    The stranger is the owner whose number comes next.
    """
    verdict = Verdict()
    turns = asyncio.Semaphore(AT_ONCE)
    deadline = asyncio.get_running_loop().time() + seconds

    async def one(job: Acknowledged) -> None:
        async with turns:
            try:
                async with asyncio.timeout_at(deadline):
                    status = await _final(clients[job.owner], job.location)
            except TimeoutError:
                verdict.lost.append(f"{job.location} is not final {seconds:.0f} s after the last fault")
                return
            if status != "EXECUTION_COMPLETED":
                verdict.wrong.append(f"{job.location} ended as {status}")
                return
            if reason := await _wrong_output(clients[job.owner], job):
                verdict.wrong.append(f"{job.location}: {reason}")
                return
            stranger = clients[(job.owner + 1) % len(clients)]
            for path in ("", "/status", "/output"):
                answer = await stranger.get(job.location + path)
                if answer.status_code != 404:
                    verdict.leaked.append(f"{job.location}{path} answers a stranger with {answer.status_code}")
            verdict.completed += 1

    await asyncio.gather(*map(one, jobs))
    return verdict


async def _final(client: httpx.AsyncClient, location: str) -> str:
    while True:
        try:
            answer = await client.get(f"{location}/status", headers={"Prefer": "wait=10"})
        except httpx.TransportError:
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        if answer.status_code == 200:
            status: str = answer.json()["status"]
            if status not in OPEN:
                return status
        elif answer.status_code < 500:
            return f"an answer {answer.status_code} to its owner"
        await asyncio.sleep(AGAIN_SECONDS)


async def _wrong_output(client: httpx.AsyncClient, job: Acknowledged) -> str:
    """What is wrong with a completed job's output; empty when nothing is."""
    outputs = (await client.get(job.location)).raise_for_status().json()["outputs"]
    if [output["name"] for output in outputs] != ["checksum.json"]:
        return f"it has the outputs {[output['name'] for output in outputs]}"
    fetched = (await client.get(outputs[0]["href"])).raise_for_status()
    if hashlib.sha256(fetched.content).hexdigest() != outputs[0]["sha256"]:
        return "its output isn't what its digest says"
    if fetched.json()["digest"] != hashlib.sha256(job.content).hexdigest():
        return "its output is of another input"
    return ""
