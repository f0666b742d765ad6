"""Secrets are planted in tokens, URLs, headers, files and settings of real processes: no log has any of them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pymongo import MongoClient

from common.mongo.client import Document
from deploy.local import keys, mongod, tokens
from tests.support.journey import ENOUGH_SECONDS, RAW, assert_completes
from tests.support.local import Local, environment, running
from tests.support.marks import long

PASSWORD = "canary-of-mongodb"
LEVELS = {f"{service}_LOG_LEVEL": "DEBUG" for service in ("FRONT", "BLOB", "JOB", "PROCESSOR")}
BATCH = {"processor": "checksum", "files": [{"name": "canary-name", "size": 5, "mimetype": "text/plain"}]}


@dataclass
class Planted:
    """A Gristmill, what must not be in its logs, and the job that has to be."""

    local: Local
    database: asyncio.subprocess.Process
    secrets: set[str]
    job_id: str = ""

    def logs(self) -> dict[str, str]:
        """What every process has written, by its name."""
        return {path.stem: path.read_text(errors="replace") for path in (self.local.data / "logs").glob("*.log")}


@pytest.fixture(params=long("filesystem", "s3"))
async def planted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Planted]:
    settings = environment(tmp_path / "data")
    port = int(settings["MONGODB_PORT"])
    database = await mongod.start(tmp_path / "mongodb", port)
    try:
        with MongoClient[Document](mongod.uri(port)) as client:
            client.admin.command("createUser", "gristmill", pwd=PASSWORD, roles=["root"])
        uri = mongod.uri(port).replace("mongodb://", f"mongodb://gristmill:{PASSWORD}@")
        async with running({**settings, **LEVELS, "BLOB_STORE": request.param, "MONGODB_URI": uri}) as local:
            made = keys.ensure(local.data)
            pems = [made.private(caller).read_text().splitlines()[1] for caller in ("front", "job", "processor")]
            yield Planted(
                local,
                database,
                # `eyJ` begins every JWT.
                {"canary", "eyJ", made.users_secret.read_text(), made.s3_secret.read_text(), *pems},
            )
    finally:
        if database.returncode is None:
            database.kill()
        await database.wait()


async def send_good(planted: Planted, http: httpx.AsyncClient) -> None:
    """A job with a canary in all that its owner may say, and a file that is uploaded over a signed URL."""
    content = b"canary-content"
    headers = {**RAW, "Idempotency-Key": "canary-key", "X-Forwarded-For": "canary-address", "Prefer": "wait=20"}
    posted = await http.post("/api/v1/job?processor=checksum&name=canary-name", content=content, headers=headers)
    assert posted.status_code == 201, posted.text
    planted.job_id = posted.json()["id"]
    await assert_completes(http, posted.headers["Location"], content)
    batch = (await http.post("/api/v1/batch", json=BATCH)).raise_for_status().json()["items"][0]
    upload = batch["upload"]
    planted.secrets |= {upload["url"].rpartition("/")[2], *upload["url"].split("Signature=")[1:]}
    async with httpx.AsyncClient(trust_env=False) as line:
        spoilt = upload["url"][:-4] + "AAAA"
        refused = await line.request(upload["method"], spoilt, content=b"hello", headers=upload["headers"])
        assert refused.status_code in (403, 404)
        (
            await line.request(upload["method"], upload["url"], content=b"hello", headers=upload["headers"])
        ).raise_for_status()
    (await http.post(f"/api/v1/job/{batch['id']}/upload/complete")).raise_for_status()


async def send_bad(planted: Planted, http: httpx.AsyncClient) -> list[int]:
    """How requests were answered that are refused for what is in them."""
    encoded = base64.b64encode(b"canary-content").decode()
    job = {"content": encoded, "mimetype": "text/plain", "processor": "checksum"}
    secret = keys.ensure(planted.local.data).users_secret
    foreign = tokens.make(secret, "canary-tenant", "canary-subject", ttl=60)
    answers = [
        await http.get("/api/v1/job", headers={"Authorization": f"Bearer {foreign}canary"}),
        await http.get("/api/v1/job", headers={"Authorization": "Basic canary"}),
        await http.get("/api/v1/job?token=canary&cursor=canary"),
        await http.get("/api/v1/job/canary-id/status?access_token=canary"),
        await http.post("/api/v1/job?processor=canary", content=b"x", headers=RAW),
        await http.post("/api/v1/job?processor=checksum&algorithm=canary", content=b"x", headers=RAW),
        await http.post("/api/v1/job", json={**job, "password": "canary"}),
        await http.post("/api/v1/job", content=b'{"canary": ', headers={"Content-Type": "application/json"}),
        await http.post("/api/v1/job", json={**job, "md5": "canary"}),
        await http.post("/api/v1/job", content=b"x", headers={"Content-Type": "multipart/form-data; boundary=canary"}),
        await http.get("/canary?canary=canary"),
    ]
    return [answer.status_code for answer in answers]


async def test_no_log_has_a_secret(planted: Planted) -> None:
    local = planted.local
    async with local.client("acme", "canary-subject") as http, asyncio.timeout(ENOUGH_SECONDS):
        planted.secrets.add(http.headers["Authorization"].removeprefix("Bearer "))
        await send_good(planted, http)
        assert await send_bad(planted, http) == [401, 401, 400, 404, 422, 422, 422, 400, 422, 400, 404]
        await local.kill("services.blob")
        planted.database.kill()
        while (await http.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - until front has noticed
            await asyncio.sleep(0.1)
    logs = planted.logs()
    assert logs.keys() >= {"front", "tracker", "blob", "job", "processor"}
    assert all(json.loads(line)["service"] for line in logs["front"].splitlines())
    # What was done, and what failed, is in the files that are searched.
    assert planted.job_id in logs["processor"]
    assert "readyz.failed" in logs["front"]
    found = [(name, secret) for name, text in logs.items() for secret in planted.secrets if secret in text]
    assert found == []
