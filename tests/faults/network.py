"""A Gristmill whose calls between processes go through proxies, which misbehave as a test tells them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.local import Local, environment, running
from tests.support.proxy import Proxy, proxied

# What blob says nothing for so long counts as away; short, so that a test need not wait for it.
BLOB_SECONDS = "2"


@dataclass(frozen=True)
class Network:
    """The ways from front (and its tracker) to blob and job, and from the processor to blob."""

    local: Local
    to_blob: Proxy
    to_job: Proxy
    processor_to_blob: Proxy

    def heal(self) -> None:
        for proxy in (self.to_blob, self.to_job, self.processor_to_blob):
            proxy.heal()


@asynccontextmanager
async def networked(folder: Path) -> AsyncIterator[Network]:
    settings = environment(folder)
    blob_port, job_port = int(settings["BLOB_PORT"]), int(settings["JOB_PORT"])
    async with (
        proxied(blob_port) as to_blob,
        proxied(job_port) as to_job,
        proxied(blob_port) as processor_to_blob,
    ):
        told = {
            "FRONT_BLOB_URL": to_blob.url,
            "FRONT_JOB_URL": to_job.url,
            "PROCESSOR_BLOB_URL": processor_to_blob.url,
            "FRONT_BLOB_SECONDS": BLOB_SECONDS,
        }
        async with running({**settings, **told}) as local:
            yield Network(local, to_blob, to_job, processor_to_blob)
