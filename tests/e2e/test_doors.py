"""Every door that a file can come in by, on both stores, with curl: nothing of ours on the client's side."""

import asyncio
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_readme import token_of
from tests.support.curl import Answer, curl, header_options
from tests.support.local import Local

PART_BYTES = 8 * 1024 * 1024
TEXT = b"Grist is corn that is brought to a mill.\n"
# In parts, through front and blob to S3 as well as straight to the store; the last one is short.
LARGE = random.Random(4).randbytes(2 * PART_BYTES + 5)


class Curl:
    """curl with a token, at front's API."""

    def __init__(self, local: Local) -> None:
        self._api = f"{local.url}/api/v1"
        self._token = f"Authorization: Bearer {token_of(local)}"

    async def __call__(self, path: str, *arguments: str, stdin: bytes = b"") -> Answer:
        return await curl("-H", self._token, *arguments, self._api + path, stdin=stdin)

    async def json(self, path: str, *arguments: str, expect: int = 200) -> Any:
        answer = await self(path, *arguments)
        assert answer.status == expect, answer.body
        return json.loads(answer.body)

    async def announce(self, content: bytes) -> dict[str, Any]:
        """The job of one file that is to be uploaded."""
        file = {"name": "grist.txt", "size": len(content), "mimetype": "text/plain", "sha256": sha256(content)}
        body = json.dumps({"processor": "checksum", "files": [file]})
        batch = await self.json("/batch", "-H", "Content-Type: application/json", "-d", body, expect=201)
        job: dict[str, Any] = batch["items"][0]
        return job

    async def digest(self, job_id: str) -> str:
        """What the processor found that it was given, once it is done."""
        status = await self.json(f"/job/{job_id}/status", "-H", "Prefer: wait=30")
        assert status["status"] == "EXECUTION_COMPLETED", status
        digest: str = (await self.json(f"/job/{job_id}/output"))["digest"]
        return digest


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def front(on_each_store: Local) -> Curl:
    return Curl(on_each_store)


@pytest.fixture
def file(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "grist.txt"
    path.write_bytes(content)
    return path


short_and_long = pytest.mark.parametrize("content", [TEXT, LARGE], ids=["short", "long"])


@short_and_long
async def test_a_raw_body(front: Curl, file: Path, content: bytes) -> None:
    answer = await front("/job?processor=checksum", "-H", "Content-Type: text/plain", "-X", "POST", "-T", str(file))
    assert answer.status == 201
    job = json.loads(answer.body)
    assert (job["status"], answer.headers["location"]) == ("STORED", f"/api/v1/job/{job['id']}")
    assert await front.digest(job["id"]) == sha256(content)


@short_and_long
async def test_a_form(front: Curl, file: Path, content: bytes) -> None:
    answer = await front("/job", "-F", "processor=checksum", "-F", f"file=@{file};type=text/plain")
    assert answer.status == 201
    assert await front.digest(json.loads(answer.body)["id"]) == sha256(content)


async def put(plan: dict[str, Any], url: str, content: bytes) -> Answer:
    """As the plan says, and without the media type of a form, which curl would add."""
    headers = [*header_options(plan["headers"]), "-H", "Content-Type:"]
    return await curl("-X", plan["method"], *headers, "--data-binary", "@-", url, stdin=content)


async def test_a_single_upload(front: Curl) -> None:
    job = await front.announce(TEXT)
    plan = job["upload"]
    assert plan["kind"] == "single"
    assert (await put(plan, plan["url"], TEXT)).status == 200
    assert (await front(f"/job/{job['id']}/upload/complete", "-X", "POST")).status == 200
    assert await front.digest(job["id"]) == sha256(TEXT)
    # 404 once the input has gone, since its job is final.
    assert (await put(plan, plan["url"], TEXT)).status in (404, 412)


async def test_parts(front: Curl) -> None:
    job = await front.announce(LARGE)
    plan = job["upload"]
    assert plan["kind"] == "multipart"

    async def send(part: dict[str, Any]) -> dict[str, Any]:
        offset = (part["number"] - 1) * plan["partSize"]
        answer = await put(plan, part["url"], LARGE[offset : offset + part["size"]])
        assert answer.status == 200
        return {"number": part["number"], "etag": answer.headers["etag"]}

    sent = await asyncio.gather(*map(send, reversed(plan["parts"])))
    body = json.dumps({"parts": sorted(sent, key=lambda part: part["number"])})
    said = await front(f"/job/{job['id']}/upload/complete", "-H", "Content-Type: application/json", "-d", body)
    assert said.status in (200, 202), said.body
    assert await front.digest(job["id"]) == sha256(LARGE)
