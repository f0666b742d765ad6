"""Uploads over HTTP as they ship: front's client for the plans, and clients that aren't ours for the bytes."""

import asyncio
import fcntl
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.clients.blob import BlobClient, open_blob_client
from common.contracts.upload import CompletedPart, UploadFacts, UploadPlan, UploadRequest
from common.errors import Invalid, TooLarge
from common.ids import input_blob_id, new_id
from services.blob.domain.grants import Grant, GrantSigner
from services.blob.domain.uploads import PART_BYTES
from tests.fakes.keys import UPLOAD_KEY, signer
from tests.support.blob_service import ORIGIN, Blob, running_blob

LONG = random.Random(2).randbytes(PART_BYTES + 5)
MAX_BYTES = 2**30


@pytest.fixture
async def blob(tmp_path: Path) -> AsyncIterator[Blob]:
    async with running_blob(tmp_path, max_blob_bytes=MAX_BYTES, stall_seconds=0.5) as running:
        yield running


@pytest.fixture
async def front(blob: Blob) -> AsyncIterator[BlobClient]:
    async with open_blob_client(blob.url, signer("front")) as opened:
        yield opened


@pytest.fixture
async def user() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def facts_of(data: bytes = LONG, **facts: Any) -> UploadFacts:
    told = {"id": input_blob_id(new_id()), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    labels = {"media_type": "image/png", "name": "a.png", "tenant": "acme", "subject": "alice"}
    return UploadFacts(**{**told, **labels, **facts})


async def plan_of(front: BlobClient, facts: UploadFacts, **wanted: Any) -> UploadPlan:
    request = UploadRequest.model_validate({"facts": facts, "expiresIn": 600, **wanted})
    (plan,) = await front.plan_uploads([request])
    return plan


async def received(front: BlobClient, facts: UploadFacts) -> list[int]:
    return [part.number for part in (await plan_of(front, facts)).parts if part.received]


async def test_typical_journey(front: BlobClient, user: httpx.AsyncClient) -> None:
    facts = facts_of()
    plan = await plan_of(front, facts)
    etags: list[CompletedPart] = []
    for part in reversed(plan.parts):
        body = LONG[(part.number - 1) * PART_BYTES :][: part.size]
        answer = await user.put(part.url or "", content=body, headers=plan.headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["etag"] == f'"{hashlib.sha256(body).hexdigest()}"'
        etags.insert(0, CompletedPart(number=part.number, etag=answer.headers["etag"]))
    status = await front.complete_upload(facts, etags)
    assert (status.state, status.size, status.sha256) == ("COMPLETE", facts.size, facts.sha256)
    other = facts_of(b"x")
    assert [each.state for each in await front.upload_statuses([other, facts])] == ["OPEN", "COMPLETE"]
    await front.abort_upload(facts.id)
    async with front.open(facts.id) as body_of:
        assert b"".join([chunk async for chunk in body_of.chunks]) == LONG


async def test_curl_sends_a_file(front: BlobClient, tmp_path: Path) -> None:
    facts = facts_of(b"a short file")
    plan = await plan_of(front, facts)
    (tmp_path / "file").write_bytes(b"a short file")
    command = ["curl", "-sS", "-f", "-T", str(tmp_path / "file"), *header_options(plan), plan.url or ""]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    assert (await front.complete_upload(facts, [])).state == "COMPLETE"


def header_options(plan: UploadPlan) -> list[str]:
    return [option for name, value in plan.headers.items() for option in ("-H", f"{name}: {value}")]


async def test_the_urls_of_one_answer_are_a_thousand_and_dealt_out_in_order(blob: Blob, front: BlobClient) -> None:
    # 128 parts each, so seven have all of theirs, the eighth has 104, and nothing is left for the ninth.
    requests = [UploadRequest(facts=facts_of(size=MAX_BYTES), expires_in=600) for _ in range(9)]
    plans = await front.plan_uploads(requests)
    assert [len(plan.parts) for plan in plans] == [128] * 7 + [104, 0]
    assert [plan.next for plan in plans] == [None] * 7 + [105, 1]
    assert len(list((blob.data / "uploads").iterdir())) == 8


async def test_a_thousand_files_are_planned_at_once(front: BlobClient, user: httpx.AsyncClient) -> None:
    files = [facts_of(b"%d" % number) for number in range(1000)]
    plans = await front.plan_uploads([UploadRequest(facts=facts, expires_in=600) for facts in files])
    assert [plan.id for plan in plans] == [facts.id for facts in files]
    assert (await user.put(plans[999].url or "", content=b"999")).status_code == 200
    states = [status.state for status in await front.upload_statuses(files)]
    assert states == ["OPEN"] * 999 + ["COMPLETE"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"method": "GET"}, 403),
        ({"method": "DELETE"}, 403),
        ({"method": "POST"}, 403),
        ({"place": "/1"}, 403),
        ({"place": "/02"}, 403),
        ({"place": ""}, 403),
        ({"body": LONG[PART_BYTES + 1 :]}, 403),
        ({"body": LONG[PART_BYTES:] + b"!"}, 403),
        ({"expires_at": 1}, 403),
        ({"key": b"another key of more than thirty-two bytes"}, 403),
        ({}, 200),
    ],
    ids=str,
)
async def test_a_url_allows_one_thing_only(
    blob: Blob, front: BlobClient, user: httpx.AsyncClient, change: dict[str, Any], status: int
) -> None:
    facts = facts_of()
    await plan_of(front, facts)
    grant = Grant(facts.id, 2, facts.size - PART_BYTES, change.get("expires_at", 2**33))
    token = GrantSigner(change.get("key", UPLOAD_KEY)).token(grant)
    url = f"{blob.data_url}/data/{token}{change.get('place', '/2')}"
    answer = await user.request(change.get("method", "PUT"), url, content=change.get("body", LONG[PART_BYTES:]))
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "/problems/forbidden"
    assert await received(front, facts) == ([2] if status == 200 else [])


async def test_a_body_without_a_length_is_counted(front: BlobClient, user: httpx.AsyncClient) -> None:
    async def chunks(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    facts = facts_of()
    plan = await plan_of(front, facts)
    url = plan.parts[0].url or ""
    assert (await user.put(url, content=chunks(LONG[: PART_BYTES - 1]))).status_code == 403
    assert (await user.put(url, content=chunks(LONG[: PART_BYTES + 1]))).status_code == 413
    assert await received(front, facts) == []
    assert (await user.put(url, content=chunks(LONG[:PART_BYTES]))).status_code == 200
    assert await received(front, facts) == [1]


async def test_bytes_that_changed_on_the_way_are_refused_and_may_be_sent_again(
    front: BlobClient, user: httpx.AsyncClient
) -> None:
    facts = facts_of(b"a short file", sha256=None)
    plan = await plan_of(front, facts)
    header = {"Content-Digest": f"sha-256=:{'A' * 43}=:"}
    answer = await user.put(plan.url or "", content=b"a short file", headers=header)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/digest-mismatch")
    assert (await user.put(plan.url or "", content=b"a short file")).status_code == 200


async def test_a_part_that_stalls_is_let_go(blob: Blob, front: BlobClient, user: httpx.AsyncClient) -> None:
    facts = facts_of()
    plan = await plan_of(front, facts)
    url = httpx.URL(plan.parts[0].url or "")
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: blob\r\nContent-Length: {PART_BYTES}\r\n\r\n"
    writer.write(head.encode() + LONG[:100_000])
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400")
    writer.close()
    assert await received(front, facts) == []
    assert (await user.put(str(url), content=LONG[:PART_BYTES])).status_code == 200


async def test_a_completion_that_takes_long_is_answered_202(
    blob: Blob, front: BlobClient, user: httpx.AsyncClient
) -> None:
    facts = facts_of()
    plan = await plan_of(front, facts)
    # As if another blob process were still taking a part, which holds up the verification.
    fd = os.open(blob.data / "uploads" / facts.id / "data", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    for part in plan.parts:
        await user.put(part.url or "", content=LONG[(part.number - 1) * PART_BYTES :][: part.size])
    headers = {"Authorization": f"Bearer {signer('front').token('blob')}"}
    body = {"facts": facts.model_dump(mode="json", by_alias=True)}
    address = f"{blob.url}/api/v1/upload/{facts.id}/complete"
    answer = await user.post(address, json=body, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"id": facts.id, "state": "VERIFYING"})
    os.close(fd)
    answer = await user.post(address, json=body, headers=headers)
    assert (answer.status_code, answer.json()["state"]) == (200, "COMPLETE")


async def test_only_pages_of_configured_origins_may_send(
    blob: Blob, front: BlobClient, user: httpx.AsyncClient
) -> None:
    plan = await plan_of(front, facts_of(b"a short file"))
    asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
    preflight = await user.options(plan.url or "", headers={"Origin": ORIGIN, **asks})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    other = await user.options(plan.url or "", headers={"Origin": "https://evil.example", **asks})
    assert "access-control-allow-origin" not in other.headers
    elsewhere = await user.options(f"{blob.url}/api/v1/blob/b-1", headers={"Origin": ORIGIN, **asks})
    assert "access-control-allow-origin" not in elsewhere.headers
    answer = await user.put(plan.url or "", content=b"a short file", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "etag" in answer.headers["access-control-expose-headers"].lower()
    refused = await user.put(plan.url or "", content=b"a short file", headers={"Origin": ORIGIN})
    assert refused.status_code == 412
    assert refused.headers["access-control-allow-origin"] == ORIGIN


async def test_bad_requests_open_nothing(blob: Blob, front: BlobClient, user: httpx.AsyncClient) -> None:
    twice = facts_of()
    for refused in ([facts_of(id="../etc")], [facts_of(id="")], [twice, twice]):
        with pytest.raises(Invalid):
            await front.plan_uploads([UploadRequest(facts=facts, expires_in=600) for facts in refused])
    with pytest.raises(TooLarge):
        await plan_of(front, facts_of(size=MAX_BYTES + 1))
    with pytest.raises(Invalid):
        await front.complete_upload(twice, [CompletedPart(number=1, etag="x")])
    headers = {"Authorization": f"Bearer {signer('front').token('blob')}"}
    facts = facts_of().model_dump(mode="json", by_alias=True)
    bad: list[tuple[str, Any]] = [
        ("", {"uploads": []}),
        ("", {"uploads": [{"facts": {**facts, "size": 0}, "expiresIn": 1}]}),
        ("", {"uploads": [{"facts": {**facts, "sha256": {"$gt": ""}}, "expiresIn": 1}]}),
        ("", {"uploads": [{"facts": {**facts, "state": "COMPLETE"}, "expiresIn": 1}]}),
        ("", {"uploads": [{"facts": facts, "expiresIn": 31 * 86_400}]}),
        ("", {"uploads": [{"facts": facts, "expiresIn": 1, "maxUrls": 1001}]}),
        ("", {"uploads": [{"facts": facts, "expiresIn": 1}] * 1001}),
        ("/status", {"uploads": [facts] * 1001}),
        ("/i-other/complete", {"facts": facts}),
        (
            f"/{facts['id']}/complete",
            {"facts": facts, "parts": [{"number": 2, "etag": "x"}, {"number": 1, "etag": "x"}]},
        ),
        (
            f"/{facts['id']}/complete",
            {"facts": facts, "parts": [{"number": 1, "etag": "x"}, {"number": 3, "etag": "x"}]},
        ),
    ]
    for path, body in bad:
        answer = await user.post(f"{blob.url}/api/v1/upload{path}", json=body, headers=headers)
        assert answer.status_code == 422, (path, body)
    assert list((blob.data / "uploads").iterdir()) == []
