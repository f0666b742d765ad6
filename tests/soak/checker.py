"""Proves, by the public API alone, what must be true of each job that was acknowledged."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.soak.line import AGAIN_SECONDS
from tests.soak.seen import CANCELLED, CHECKSUM, COMPLETED, NAP, OPEN, Acknowledged

AT_ONCE = 8
# What a machine that was just asked for much may take to answer a single question.
ANSWER_SECONDS = 15.0
OUTPUTS = {CHECKSUM: "checksum.json", NAP: "result.txt"}


@dataclass(slots=True)
class Verdict:
    """How many jobs ended in which of the right ways, and the sentences about those that did not."""

    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    unreported: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.wrong, *self.leaked, *self.unreported]


async def check(jobs: Sequence[Acknowledged], clients: Sequence[httpx.AsyncClient], seconds: float) -> Verdict:
    """Waits until front has been told the end of every job, for `seconds` in all; then looks at each job, its outputs,
    its place in its owner's list, and at it with a stranger's eyes. The stranger is the owner whose number comes next.
    """
    verdict = Verdict()
    deadline = time.monotonic() + seconds
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(job: Acknowledged) -> None:
        async with turns:
            await _Look(job, clients[job.owner], clients[(job.owner + 1) % len(clients)], verdict, seconds).look()

    # First the lists: they are what front has written down, and looking at a job makes front ask about it.
    lists = await asyncio.gather(*(_list_of_ended(client, deadline) for client in clients))
    for owner, listed in enumerate(lists):
        _check_list([job for job in jobs if job.owner == owner], listed, verdict)
    await asyncio.gather(*map(one, jobs))
    return verdict


async def _list_of_ended(client: httpx.AsyncClient, deadline: float) -> list[dict[str, Any]]:
    """All jobs of an owner, once none is open any more; or as they are when the time is over."""
    while True:
        listed = await _list(client)
        if time.monotonic() > deadline or not any(job["status"] in OPEN for job in listed):
            return listed
        await asyncio.sleep(AGAIN_SECONDS)


async def _list(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    path: str | None = "/api/v1/job?limit=200"
    while path is not None:
        answer = (await _get(client, path)).raise_for_status()
        found += answer.json()["items"]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    return found


async def _get(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """A response that isn't a 5xx, for the last fault may be felt still. Raises what comes in its place in the end."""
    over = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            answer = await client.get(path)
        except httpx.TransportError:
            if time.monotonic() > over:
                raise
        else:
            if answer.status_code < 500 or time.monotonic() > over:
                return answer
        await asyncio.sleep(AGAIN_SECONDS)


def _check_list(jobs: Sequence[Acknowledged], listed: Sequence[dict[str, Any]], verdict: Verdict) -> None:
    """Also of jobs that were made and not acknowledged: each file was handed in once, and each job ends."""
    statuses = {f"/api/v1/job/{job['id']}": job["status"] for job in listed}
    hidden = Counter(job.name for job in jobs if job.location not in statuses)
    for name, count in (hidden + Counter(job["name"] for job in listed)).items():
        if count > 1:
            verdict.doubled.append(f"{name} is {count} jobs")
    verdict.unreported += [f"{where} is {status} in its list" for where, status in statuses.items() if status in OPEN]
    for job in jobs:
        if job.deleted is False and job.location not in statuses:
            verdict.lost.append(f"{job.location} is in no list")
        if job.deleted and job.location in statuses:
            verdict.wrong.append(f"{job.location} is deleted, and in the list")


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at one job, by its owner and by a stranger."""

    job: Acknowledged
    owner: httpx.AsyncClient
    stranger: httpx.AsyncClient
    verdict: Verdict
    seconds: float

    async def look(self) -> None:
        job, verdict = self.job, self.verdict
        answer = await _get(self.owner, job.location)
        if job.deleted is not False and answer.status_code == 404:
            verdict.leaked += await self._seen_by(self.owner, "its owner, who has deleted it,")
            verdict.ends["deleted"] += 1
        elif job.deleted:
            verdict.wrong.append(f"{job.location} is deleted, and answers {answer.status_code}")
        elif not answer.is_success:
            verdict.lost.append(f"{job.location} answers its owner with {answer.status_code}")
        elif (status := answer.json()["status"]) in OPEN:
            verdict.lost.append(f"{job.location} is {status} {self.seconds:.0f} s after the last fault")
        elif reason := await self._wrong(answer.json()):
            verdict.wrong.append(f"{job.location}: {reason}")
        else:
            verdict.ends[status] += 1
        verdict.leaked += await self._seen_by(self.stranger, "a stranger")

    async def _seen_by(self, who: httpx.AsyncClient, name: str) -> list[str]:
        answers = {path: await _get(who, self.job.location + path) for path in ("", "/status", "/output")}
        return [
            f"{self.job.location}{path} answers {name} with {answer.status_code}"
            for path, answer in answers.items()
            if answer.status_code != 404
        ]

    async def _wrong(self, whole: dict[str, Any]) -> str:
        """What is wrong with a job that has ended; empty when nothing is."""
        job, status, outputs = self.job, whole["status"], whole["outputs"]
        if job.told not in (None, status):
            return f"it ended as {job.told} first, and then as {status}"
        if sum(state["status"] not in OPEN for state in whole["history"]) != 1:
            return f"its history is {whole['history']}"
        if status == CANCELLED and (job.cancelled or job.deleted is None):
            return "" if not outputs else "it was cancelled, and has outputs"
        if status != COMPLETED:
            return f"it ended as {status}: {whole.get('error')}"
        if [output["name"] for output in outputs] != [OUTPUTS[job.processor]]:
            return f"it has the outputs {[output['name'] for output in outputs]}"
        fetched = await _get(self.owner, outputs[0]["href"])
        if not fetched.is_success:
            return f"its output answers {fetched.status_code}"
        sha256 = hashlib.sha256(fetched.content).hexdigest()
        if sha256 != outputs[0]["sha256"]:
            return "its output isn't what its digest says"
        if (sha256 if job.processor == NAP else fetched.json()["digest"]) != job.sha256:
            return "its output is of another input"
        return ""
