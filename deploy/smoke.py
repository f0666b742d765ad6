"""`make smoke URL=… TOKEN=…`: the main journey against a running Gristmill, wherever it is, and what of it works.

It makes a few small jobs for the token's owner, with the processor `checksum`, and deletes them again.
"""

import asyncio
import base64
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.settings import load

JOBS = "/api/v1/job"
BATCHES = "/api/v1/batch"
CONTENT = b"Grist is corn that is brought to a mill.\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOBODYS = "01890000-0000-7000-8000-000000000000"
FINAL = ("EXECUTION_COMPLETED", "CANCELLED")


class SmokeSettings(BaseSettings):
    """Where it is, and as whom to try it."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    url: str = Field(pattern="^https?://", description="Front's address, without a path.")
    token: SecretStr = Field(description="A user's token.")
    other_token: SecretStr | None = Field(None, description="Another user's, to see that jobs are hidden from others.")
    within: float = Field(60, gt=0, description="How many seconds a job may take to its end.")


class Broken(Exception):  # noqa: N818 - the deployment is broken; the message says how
    """What was promised is not so."""


@dataclass
class Smoke:
    """One walk through the journey. `finished` is a job whose work is done, once there is one."""

    http: httpx.AsyncClient
    other: httpx.AsyncClient | None
    within: float
    made: list[str] = field(default_factory=list)
    finished: dict[str, Any] | None = None

    def steps(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What is promised, in words, and how each is tried."""
        return {
            "it is there and ready": self.is_ready,
            "a processor `checksum` is on offer": self.has_processor,
            "a raw file is taken, worked on, and its output has its digest": self.raw,
            "so is a form": self.form,
            "so is JSON": self.json,
            "the job is in its owner's list": self.lists,
            "nobody is let in without a token": self.needs_a_token,
            "a job of somebody else is not there": self.hides,
            "a request that makes no sense is refused, and the response says why": self.refuses,
            "a job that waits is cancelled": self.cancels,
            "a job that is deleted is gone": self.deletes,
        }

    async def is_ready(self) -> None:
        await self._send(200, "GET", "/readyz")

    async def has_processor(self) -> None:
        offers = (await self._send(200, "GET", "/api/v1/processor")).json()["items"]
        if not any(offer["name"] == "checksum" and offer["live"] for offer in offers):
            raise Broken("none runs now")

    async def raw(self) -> None:
        headers = {"Content-Type": "text/plain"}
        await self._finishes(await self._create(params={"processor": "checksum"}, content=CONTENT, headers=headers))

    async def form(self) -> None:
        file = {"file": ("grist.txt", CONTENT, "text/plain")}
        await self._finishes(await self._create(data={"processor": "checksum"}, files=file))

    async def json(self) -> None:
        content = base64.b64encode(CONTENT).decode()
        body = {"content": content, "mimetype": "text/plain", "name": "grist.txt", "processor": "checksum"}
        self.finished = await self._finishes(await self._create(json=body))

    async def lists(self) -> None:
        listed = (await self._send(200, "GET", JOBS, params={"limit": 50})).json()["items"]
        if self._finished()["id"] not in [job["id"] for job in listed]:
            raise Broken("it is not among the newest 50")

    async def needs_a_token(self) -> None:
        _expect(await self.http.get(JOBS, headers={"Authorization": ""}), 401)

    async def hides(self) -> None:
        """With another user's token a job that is there; without one, an id that nobody has."""
        job_id = self._finished()["id"] if self.other else NOBODYS
        for path in (f"{JOBS}/{job_id}", f"{JOBS}/{job_id}/status", f"{JOBS}/{job_id}/output"):
            _expect(await (self.other or self.http).get(path), 404)

    async def refuses(self) -> None:
        answer = await self._send(422, "POST", JOBS, params={"processor": "no-such-processor"}, content=CONTENT)
        if not (answer.headers["Content-Type"].startswith("application/problem+json") and answer.json()["errors"]):
            raise Broken("the response is no problem document")

    async def cancels(self) -> None:
        # Its file doesn't come, so the job waits for as long as it is let.
        file = {"name": "a.txt", "size": len(CONTENT), "mimetype": "text/plain"}
        batch = await self._send(201, "POST", BATCHES, json={"processor": "checksum", "files": [file]})
        (job,) = batch.json()["items"]
        self.made.append(job["id"])
        answer = await self.http.post(f"{JOBS}/{job['id']}/cancel")
        if answer.status_code != 202:
            _expect(answer, 200)
        await self._ends_as("CANCELLED", job["id"])

    async def deletes(self) -> None:
        path = f"{JOBS}/{self._finished()['id']}"
        await self._send(204, "DELETE", path)
        await self._send(404, "GET", path)
        await self._send(404, "GET", f"{path}/output")

    async def tidy_up(self) -> None:
        """Delete what is left of the jobs that were made, as far as that can be done."""
        for job_id in self.made:
            await self.http.delete(f"{JOBS}/{job_id}")

    async def _create(self, **request: Any) -> dict[str, Any]:
        job: dict[str, Any] = (await self._send(201, "POST", JOBS, **request)).json()
        self.made.append(job["id"])
        return job

    async def _finishes(self, job: dict[str, Any]) -> dict[str, Any]:
        """Wait for the job's end, and fetch its output. The whole job."""
        (output,) = (await self._ends_as("EXECUTION_COMPLETED", job["id"]))["outputs"]
        fetched = await self._send(200, "GET", f"{JOBS}/{job['id']}/output")
        digest = hashlib.sha256(fetched.content)
        in_header = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        if (output["sha256"], fetched.headers.get("Repr-Digest")) != (digest.hexdigest(), in_header):
            raise Broken("the output doesn't have its digest")
        if fetched.json()["digest"] != SHA256:
            raise Broken("what was worked on isn't what was sent")
        return job

    async def _ends_as(self, end: str, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + self.within
        while True:
            left = max(0, min(30, int(deadline - time.monotonic())))
            answer = await self._send(200, "GET", f"{JOBS}/{job_id}/status", headers={"Prefer": f"wait={left}"})
            status: dict[str, Any] = answer.json()
            if status["status"] == end:
                return status
            if status["status"] in FINAL or status["status"].endswith("_ERROR"):
                raise Broken(f"it ended as {status['status']}: {(status.get('error') or {}).get('detail', '')}")
            if time.monotonic() >= deadline:
                raise Broken(f"it is {status['status']} ({status.get('phase')}) after {self.within:g} s")
            await asyncio.sleep(0.1)

    def _finished(self) -> dict[str, Any]:
        if self.finished is None:
            raise Broken("not tried, as no job came to its end")
        return self.finished

    async def _send(self, expected: int, method: str, path: str, **request: Any) -> httpx.Response:
        return _expect(await self.http.request(method, path, **request), expected)


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code != status:
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = ""
        raise Broken(f"{status} was expected, {answer.status_code} came. {detail}".rstrip())
    return answer


async def walk(smoke: Smoke, say: Callable[[str], None]) -> int:
    """Try every step and say of each whether it works. Returns how many don't."""
    broken = 0
    for promise, attempt in smoke.steps().items():
        began = time.monotonic()
        try:
            await attempt()
        except (Broken, httpx.HTTPError, ValueError, KeyError) as error:
            broken += 1
            why = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            say(f"  fails   {promise}: {why}")
        else:
            say(f"  works   {promise} ({time.monotonic() - began:.2f} s)")
    try:
        await smoke.tidy_up()
    except httpx.HTTPError as error:
        say(f"  Jobs may be left behind: {type(error).__name__}.")
    return broken


def client(url: str, token: SecretStr, within: float) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=within + 10)


async def main(settings: SmokeSettings) -> int:
    print(f"Trying {settings.url}:")
    async with client(settings.url, settings.token, settings.within) as http:
        if settings.other_token is None:
            print("  (Without OTHER_TOKEN= an id that nobody has stands in for somebody else's job.)")
            broken = await walk(Smoke(http, None, settings.within), print)
        else:
            async with client(settings.url, settings.other_token, settings.within) as other:
                broken = await walk(Smoke(http, other, settings.within), print)
    print("Everything works." if not broken else f"{broken} of what was tried fails.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(load(SmokeSettings))))
