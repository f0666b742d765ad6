"""Who isn't let in, and who sees nothing: one response for every fault of a token, one for every job of others."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from common.ids import new_id
from tests.support.platform import SECRET, Platform, open_platform, token

WAIT = {"Prefer": "wait=1"}
# The bare status path and FastAPI's are two ways to one response; `Prefer` chooses between them.
READS: list[tuple[str, dict[str, str]]] = [
    ("", {}),
    ("/status", {}),
    ("/status", WAIT),
    ("/output", {}),
    ("/output/checksum.json", {}),
]
READ_IDS = ["job", "status", "status-with-prefer", "output", "named-output"]


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("bad-tokens"))
    async with open_platform(mongodb_uri, folder.name, folder) as platform:
        yield platform


@pytest.fixture(scope="module")
async def job(platform: Platform) -> str:
    """Where Alice's finished job is."""
    alice = platform.client()
    created = await alice.post("/api/v1/job?processor=checksum", content=b"x", headers={"Content-Type": "text/plain"})
    await platform.final(alice, created.json()["id"])
    return created.headers["location"]


def parts(*objects: Any, signature: bytes = b"") -> str:
    encoded = [json.dumps(part).encode() for part in objects] + [signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in encoded)


def unsigned(alg: str) -> str:
    claims = json.loads(base64.urlsafe_b64decode(token().split(".")[1] + "=="))
    return parts({"alg": alg, "typ": "JWT"}, claims)


def signed(header: dict[str, Any]) -> str:
    """A token whose signature is right, under headers that no library would write."""
    claims = json.loads(base64.urlsafe_b64decode(token().split(".")[1] + "=="))
    text = parts(header, claims).rsplit(".", 1)[0]
    signature = hmac.digest(SECRET.encode(), text.encode(), "sha256")
    return text + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


BAD_TOKENS = {
    "none": None,
    "malformed": "not-a-token",
    "alg-none": unsigned("none"),
    "alg-nOnE": unsigned("nOnE"),
    "alg-not-listed": signed({"alg": "HS512"}),
    "jku": signed({"alg": "HS256", "jku": "http://127.0.0.1:9/keys"}),
    "jwk": signed({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}),
    "empty-signature": token().rsplit(".", 1)[0] + ".",
    "aud-wrong": token(aud="another"),
    "aud-missing": token(aud=None),
    "aud-list-without-ours": token(aud=["another"]),
    "iss-wrong": token(iss="https://evil.example"),
    "expired": token(exp=int(time.time()) - 1),
    "exp-missing": token(exp=None),
    "exp-text": token(exp="9999999999"),
    "not-yet-valid": token(nbf=int(time.time()) + 600),
    "tenant-missing": token(tenant=None),
    "tenant-empty": token(tenant=""),
    "tenant-object": token(tenant={"$gt": ""}),
    "tenant-half-a-surrogate-pair": token(tenant="\ud800"),
    "subject-missing": token(subject=None),
    "subject-boolean": token(subject=True),
    "subject-too-long": token(subject="x" * 257),
    "over-8-KB": token(padding="x" * 9000),
}


def seen(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """All that a client can tell answers by."""
    return answer.status_code, dict(answer.headers), answer.content


@pytest.mark.parametrize("bearer", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_bad_token_gets_one_answer_on_every_route(platform: Platform, job: str, bearer: str | None) -> None:
    client = platform.client(bearer=bearer or "")
    answers = [await client.get(job + path, headers=headers) for path, headers in READS]
    answers.append(await client.get("/api/v1/processor"))
    answers.append(await client.get(f"/api/v1/job/{new_id()}/status"))
    answers.append(await client.get("/api/v1/job/malformed"))
    jobs = await platform.core.jobs.jobs.count_documents({})
    answers += [
        await client.post("/api/v1/job", content=b"{", headers={"Content-Type": content_type})
        for content_type in ("application/json", "image/png", "multipart/form-data; boundary=x")
    ]
    assert await platform.core.jobs.jobs.count_documents({}) == jobs
    for answer in answers:
        assert seen(answer) == seen(answers[0])
    assert answers[0].status_code == 401
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert answers[0].json()["type"] == "/problems/unauthorized"


async def test_the_first_of_two_tokens_counts_on_both_status_paths(platform: Platform, job: str) -> None:
    good, bad = (("Authorization", f"Bearer {bearer}") for bearer in (token(), token(aud="another")))
    client = platform.client(bearer="")
    for first, second, status in ((good, bad, 200), (bad, good, 401)):
        for prefer in ([], [("Prefer", "wait=1")]):
            client.headers.pop("Authorization", None)
            answer = await client.get(f"{job}/status", headers=[first, second, *prefer])
            assert answer.status_code == status


async def test_an_audience_list_with_ours_is_let_in(platform: Platform, job: str) -> None:
    client = platform.client(bearer=token(aud=["another", "gristmill"]))
    for path, headers in READS:
        assert (await client.get(job + path, headers=headers)).status_code == 200


@pytest.mark.parametrize(("path", "headers"), READS, ids=READ_IDS)
async def test_what_is_not_yours_is_not_there(platform: Platform, job: str, path: str, headers: dict[str, str]) -> None:
    nowhere = [
        f"/api/v1/job/{job_id}"
        for job_id in (
            new_id(),
            "malformed",
            "%00",
            "x" * 4096,
            job.rsplit("/", 1)[1].upper(),
            "00000000-0000-4000-8000-000000000000",
            job.rsplit("/", 1)[1] + "%00",
            job.rsplit("/", 1)[1] + "%0A",
            "%7B%22$gt%22:%22%22%7D",
            "a%2Fb",
            "%FF",
        )
    ]
    alice = platform.client()
    others = [
        platform.client(tenant="acme", subject="bob"),
        platform.client(tenant="umbrella", subject="alice"),
        platform.client(tenant="Acme", subject="alice"),
        platform.client(tenant="acme\u200b", subject="alice"),
    ]
    answers = [await alice.get(place + path, headers=headers) for place in nowhere]
    answers += [await other.get(job + path, headers=headers) for other in others]
    for answer in answers:
        assert seen(answer) == seen(answers[0])
    assert answers[0].status_code == 404
    assert answers[0].json()["type"] == "/problems/not-found"
    assert (await alice.get(job + path, headers=headers)).status_code == 200


async def test_not_found_is_the_same_bytes_on_every_route(platform: Platform, job: str) -> None:
    bob = platform.client(subject="bob")
    answers = [await bob.get(job + path, headers=headers) for path, headers in READS]
    assert {seen(answer)[2] for answer in answers} == {seen(answers[0])[2]}
    assert all(seen(answer) == seen(answers[0]) for answer in answers)


async def test_an_output_that_never_was_is_not_told_to_others(platform: Platform, job: str) -> None:
    alice, bob = platform.client(), platform.client(subject="bob")
    for name in ("nothing.bin", "..%2F..%2Fetc%2Fpasswd", "%00", "x" * 4096):
        mine, other = await alice.get(f"{job}/output/{name}"), await bob.get(f"{job}/output/{name}")
        assert (mine.status_code, other.status_code) == (404, 404)
        assert other.json()["type"] == "/problems/not-found"
        if "%2F" not in name:
            assert mine.json()["type"] == "/problems/result-not-available"


async def test_no_token_and_no_parameter_is_ever_logged(
    platform: Platform, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "canary-9f3c51"
    caplog.set_level(logging.WARNING)  # as the services log, whatever level they are told: at others, libraries talk
    alice = platform.client(bearer=token(subject=canary))
    bad = platform.client(bearer=token(aud=canary, subject=canary) + canary)
    body = {"content": base64.b64encode(canary.encode()).decode(), "mimetype": "text/plain", "processor": "checksum"}
    as_json = {"Content-Type": "application/json"}
    with capture_logs() as logged:
        await bad.post("/api/v1/job", json=body)
        refused = [
            await alice.post("/api/v1/job", json={**body, "params": {"algorithm": canary, "secret": canary}}),
            await alice.post("/api/v1/job", json={**body, "MD5": canary}),
            await alice.post("/api/v1/job", json={**body, "owner": canary}),
            await alice.post("/api/v1/job", content=json.dumps(body)[:-1] + canary, headers=as_json),
            await alice.post(f"/api/v1/job?processor=checksum&algorithm={canary}", content=canary.encode()),
            await alice.get(f"/api/v1/job/{canary}/status?token={canary}"),
        ]
        platform.to_blob.on = platform.to_job.on = True
        try:
            accepted = await alice.post("/api/v1/job", json={**body, "name": canary, "params": {"algorithm": "sha512"}})
            async with asyncio.timeout(10):
                while not any(entry["event"] == "job.left_to_tracker" for entry in logged):  # noqa: ASYNC110 - a list
                    await asyncio.sleep(0.01)
            refused.append(await alice.post("/api/v1/job?processor=checksum", content=canary.encode()))
        finally:
            platform.to_blob.on = platform.to_job.on = False
    assert accepted.status_code == 201
    assert [answer.status_code for answer in refused] == [422, 422, 422, 400, 422, 404, 503]
    secrets = [canary, hashlib.sha256(canary.encode()).hexdigest(), SECRET, "eyJ"]
    out, err = capfd.readouterr()
    everything = repr(logged) + caplog.text + out + err
    assert "job.left_to_tracker" in everything
    assert [secret for secret in secrets if secret in everything] == []
