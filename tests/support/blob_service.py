"""blob as it ships, on a loopback port and a folder of the test's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from common.settings import MAX_REQUESTS
from common.web.serve import Readiness
from deploy.local.mongod import free_port
from services.blob.app import open_apps
from services.blob.settings import Settings
from tests.fakes.keys import upload_key_file, verifier
from tests.support.serving import serving

ORIGIN = "https://pages.example"


@dataclass(frozen=True)
class Blob:
    """Where it listens to services and to users, and the folder that it keeps things in."""

    url: str
    data_url: str
    data: Path
    readiness: Readiness

    def staging(self) -> list[Path]:
        return list((self.data / "staging").iterdir())

    def file(self, blob_id: str) -> Path:
        (path,) = self.data.glob(f"blobs/*/{blob_id}")
        return path

    async def staged(self, count: int) -> None:
        """Wait until so many uploads are under way."""
        async with asyncio.timeout(10):
            while len(self.staging()) != count:  # noqa: ASYNC110 - a server gives no event for what it has seen
                await asyncio.sleep(0)


@asynccontextmanager
async def running_blob(
    data: Path,
    *,
    max_blob_bytes: int = 2**30,
    stall_seconds: float = 60,
    max_requests: int = MAX_REQUESTS,
    keys: Path | None = None,
) -> AsyncIterator[Blob]:
    data_port = free_port()
    settings = Settings(
        data_dir=data,
        keys=keys,
        callers_dir=data,
        upload_key_file=upload_key_file(data),
        public_url=f"http://127.0.0.1:{data_port}",
        upload_origins=[ORIGIN],
        max_blob_bytes=max_blob_bytes,
        min_free_bytes=0,
        stall_seconds=stall_seconds,
        max_requests=max_requests,
    )
    readiness = Readiness()
    async with open_apps(settings, readiness, verifier=verifier("blob")) as (app, data_plane):
        assert data_plane is not None
        async with serving(app) as url, serving(data_plane, port=data_port) as data_url:
            yield Blob(url, data_url, data, readiness)
