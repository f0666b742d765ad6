"""A store that takes uploads, with whatever its signed URLs lead to; and a client that knows nothing but the plan."""

import asyncio
import base64
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from common.contracts.upload import CompletedPart, UploadFacts, UploadPlan, UploadRequest, UploadStatus
from common.errors import NotFound
from common.ids import input_blob_id, new_id
from common.web.serve import Readiness
from deploy.local.mongod import free_port
from services.blob.adapters.filesystem.folder import Disk
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.store import FilesystemBlobStore, open_filesystem_store
from services.blob.adapters.filesystem.uploads import DataUrls, FilesystemUploads, open_filesystem_uploads
from services.blob.app import Storage, make_app, make_data_app, open_storage
from services.blob.domain.grants import Grant, GrantSigner
from services.blob.domain.uploads import PART_BYTES
from services.blob.ports import BlobStore, UploadStore
from services.blob.settings import Settings
from tests.fakes.keys import upload_key_file, verifier
from tests.support.serving import serving

# Four parts, the last of them short, and no two alike.
LONG = random.Random(1).randbytes(3 * PART_BYTES + 5)
WHOLE = [1, 2, 3, 4]
SHORT = b"a short file"
# What a store may answer to a body that hasn't the signed size, and to a URL whose upload is over.
WRONG_SIZE = {403, 413}
OVER = {403, 404, 409, 412}


@dataclass(frozen=True)
class Uploads:
    """The ports, and plain HTTP; `api_url` is that of the API for other services, where it is served."""

    store: UploadStore
    blobs: BlobStore
    http: httpx.AsyncClient
    api_url: str = ""

    async def plan(self, facts: UploadFacts, **wanted: Any) -> UploadPlan:
        return await self.store.plan(UploadRequest.model_validate({"facts": facts, "expiresIn": 600, **wanted}))

    async def send(self, plan: UploadPlan, url: str | None, data: bytes) -> httpx.Response:
        assert url is not None
        return await self.http.request(plan.method, url, content=data, headers=plan.headers)

    async def send_part(self, plan: UploadPlan, data: bytes, number: int) -> CompletedPart:
        (part,) = (part for part in plan.parts if part.number == number)
        answer = await self.send(plan, part.url, part_of(data, number))
        assert answer.is_success, (answer.status_code, answer.text)
        return CompletedPart(number=number, etag=answer.headers["etag"])

    async def send_all(self, facts: UploadFacts, data: bytes) -> list[CompletedPart]:
        """The whole file; the parts that were answered."""
        plan = await self.plan(facts)
        if plan.kind == "multipart":
            return await asyncio.gather(*(self.send_part(plan, data, part.number) for part in plan.parts))
        answer = await self.send(plan, plan.url, data)
        assert answer.is_success, (answer.status_code, answer.text)
        return []

    async def ended(self, facts: UploadFacts, parts: Sequence[CompletedPart] = ()) -> UploadStatus:
        """What the upload came to, once it has been verified."""
        status = await self.store.complete(facts, parts)
        async with asyncio.timeout(30):
            while status.state == "VERIFYING":
                await asyncio.sleep(0.01)  # a store tells nobody; front asks like this, only less often
                status = await self.store.status(facts)
        return status

    async def is_absent(self, facts: UploadFacts) -> bool:
        try:
            await self.blobs.stat(facts.id)
        except NotFound:
            return True
        return False

    async def read(self, facts: UploadFacts) -> bytes:
        opened = await self.blobs.open(facts.id)
        try:
            return b"".join([chunk async for chunk in opened.read(0, opened.blob.size - 1)])
        finally:
            opened.close()


def part_of(data: bytes, number: int) -> bytes:
    return data[(number - 1) * PART_BYTES : number * PART_BYTES]


def facts_of(data: bytes, *, announced: bytes | None = None, digest: bool = True) -> UploadFacts:
    """A new upload of `data`; the digest that is announced may be that of other bytes, or none."""
    sha256 = hashlib.sha256(data if announced is None else announced).hexdigest() if digest else None
    return UploadFacts(
        id=input_blob_id(new_id()),
        size=len(data),
        sha256=sha256,
        media_type="application/pdf",
        name="Größe \u202e a/../b.pdf",
        tenant="acme",
        subject="alice@example.org",
    )


def filesystem_settings(folder: Path, port: int, **settings: Any) -> Settings:
    return Settings(
        callers_dir=folder,
        data_dir=folder / "data",
        upload_key_file=upload_key_file(folder),
        public_url=f"http://127.0.0.1:{port}",
        **{"min_free_bytes": 0, **settings},
    )


@asynccontextmanager
async def served(storage: Storage, settings: Settings, port: int) -> AsyncIterator[Uploads]:
    """The uploads of a storage that is open, with its data plane (if it has one) on that port."""
    assert storage.uploads
    app, data_app = (
        make_app(storage, verifier("blob"), settings, Readiness()),
        make_data_app(storage, settings, Readiness()),
    )
    async with AsyncExitStack() as stack:
        if data_app is not None:
            await stack.enter_async_context(serving(data_app, port=port))
        url = await stack.enter_async_context(serving(app))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
        yield Uploads(storage.uploads, storage.blobs, http, url)


@asynccontextmanager
async def filesystem_uploads(folder: Path, *, keys: Path | None = None) -> AsyncIterator[Uploads]:
    port = free_port()
    settings = filesystem_settings(folder, port, keys=keys)
    async with open_storage(settings) as storage, served(storage, settings, port) as uploads:
        yield uploads


@dataclass(frozen=True)
class Opened:
    """The uploads of a folder, without HTTP in between."""

    store: FilesystemBlobStore
    uploads: FilesystemUploads

    async def plan(self, facts: UploadFacts) -> UploadPlan:
        return await self.uploads.plan(UploadRequest(facts=facts, expires_in=600))

    async def received(self, facts: UploadFacts) -> list[int]:
        return [part.number for part in (await self.plan(facts)).parts if part.received]

    async def send(self, facts: UploadFacts, number: int, data: bytes = LONG, *, sha256: str | None = None) -> str:
        part = part_of(data, number)
        return await self.uploads.receive(grant_of(facts, number), in_chunks(part), sha256)

    async def completed(self, facts: UploadFacts) -> None:
        """Wait until the blob is there, and ask nothing about the upload."""
        async with asyncio.timeout(20):
            while not await self.is_there(facts):  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(0.01)

    async def is_there(self, facts: UploadFacts) -> bool:
        try:
            await self.store.stat(facts.id)
        except NotFound:
            return False
        return True

    async def read(self, facts: UploadFacts) -> bytes:
        opened = await self.store.open(facts.id)
        try:
            return b"".join([chunk async for chunk in opened.read(0, facts.size - 1)])
        finally:
            opened.close()


@asynccontextmanager
async def opened(
    root: Path, disk: Disk | None = None, min_free_bytes: int = 0, keys: MasterKeys | None = None
) -> AsyncIterator[Opened]:
    urls = DataUrls("http://blob.example", GrantSigner(b"k" * 32))
    async with (
        open_filesystem_store(root, disk=disk, min_free_bytes=min_free_bytes, keys=keys) as store,
        open_filesystem_uploads(store, urls) as uploads,
    ):
        yield Opened(store, uploads)


def grant_of(facts: UploadFacts, number: int | None) -> Grant:
    size = facts.size if number is None else len(part_of(LONG, number))
    return Grant(facts.id, number, size, int(time.time()) + 600)


async def in_chunks(data: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 260_000):
        yield data[start : start + 260_000]
    if then is not None:
        raise then


def altered(url: str, other: str) -> dict[str, str]:
    """A signed URL with one thing changed, as its holder might; `other` is signed for another part, or another file."""
    parts, others = urlsplit(url), urlsplit(other)
    if "/data/" in parts.path:
        return {name: parts._replace(path=path).geturl() for name, path in _altered_grants(parts.path, others.path)}
    query, other_query = dict(parse_qsl(parts.query)), dict(parse_qsl(others.query))
    changes = {
        "expiry": {"X-Amz-Expires": "604799"},
        "date": {"X-Amz-Date": f"{query['X-Amz-Date'][:-2]}{9 - int(query['X-Amz-Date'][-2])}Z"},
        "signed headers": {"X-Amz-SignedHeaders": "host"},
        "signature": {"X-Amz-Signature": "0" * 64},
        "anothers signature": {"X-Amz-Signature": other_query["X-Amz-Signature"]},
    }
    if "partNumber" in query:
        changes["part"] = {"partNumber": other_query["partNumber"]}
        upload = query["uploadId"]
        changes["upload"] = {"uploadId": upload[:-1] + ("1" if upload.endswith("0") else "0")}
    made = {name: parts._replace(query=urlencode(query | change)).geturl() for name, change in changes.items()}
    path = parts.path.replace("/uploads/", "/blobs/")
    return {
        **made,
        "path": parts._replace(path=path).geturl(),
        "longer path": parts._replace(path=parts.path + "x").geturl(),
    }


def _altered_grants(path: str, other: str) -> Iterator[tuple[str, str]]:
    token, _, number = path.removeprefix("/data/").partition("/")
    other_token, _, other_number = other.removeprefix("/data/").partition("/")
    payload, _, mac = token.partition(".")
    grant = json.loads(base64.urlsafe_b64decode(payload + "=="))
    end = f"/{number}" if number else ""
    for name, position, value in (
        ("upload", 0, "i-other"),
        ("part", 1, 9),
        ("size", 2, 1),
        ("expiry", 3, 2**40),
        ("method", 4, "DELETE"),
    ):
        changed = json.dumps([*grant[:position], value, *grant[position + 1 :]], separators=(",", ":"))
        yield name, f"/data/{base64.urlsafe_b64encode(changed.encode()).rstrip(b'=').decode()}.{mac}{end}"
    yield "signature", f"/data/{payload}.{'A' * len(mac)}{end}"
    yield "no signature", f"/data/{payload}{end}"
    yield "anothers signature", f"/data/{payload}.{other_token.partition('.')[2]}{end}"
    yield "the part in the path", f"/data/{token}/{other_number or 1}"
