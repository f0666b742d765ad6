"""The mongod and the S3 of all workers: started by the process that starts the workers, and ended by it.

Each test has a database and a bucket of its own in them. Without workers the session has its own.
"""

import asyncio
import secrets
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.local import mongod, seaweed
from deploy.local.mongod import free_port
from deploy.local.seaweed import Seaweed


class Shared:
    """What runs for all workers."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gristmill-tests-")
        root = Path(self._folder.name)
        self._port = free_port()
        self._s3 = Seaweed(root / "seaweed", free_port(), secrets.token_urlsafe())
        self._loop = asyncio.new_event_loop()
        self._processes = self._loop.run_until_complete(self._start(root))

    async def _start(self, root: Path) -> tuple[asyncio.subprocess.Process, ...]:
        return await asyncio.gather(mongod.start(root / "mongod", self._port), seaweed.start(self._s3))

    def addresses(self) -> dict[str, Any]:
        """What a worker is given: plain values, for they travel as text."""
        s3 = asdict(self._s3)
        return {"mongodb_uri": mongod.uri(self._port), "s3": {**s3, "data": str(s3["data"])}}

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            self._loop.run_until_complete(process.wait())
        self._loop.close()
        self._folder.cleanup()


def s3_of(addresses: dict[str, Any]) -> Seaweed:
    """The S3 at these addresses."""
    of = addresses["s3"]
    return Seaweed(Path(of["data"]), of["port"], of["secret"])
