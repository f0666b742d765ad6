"""SHA-256 in a thread, while the next bytes arrive."""

import asyncio
import hashlib
from concurrent.futures import Executor

# Below this, handing over costs more than hashing here.
HAND_OVER_BYTES = 256 * 1024
# What may wait for the thread: it hashes as fast as most disks write, so more would only be memory.
MAX_WAITING_BYTES = 2 * 1024 * 1024


class HashBeside:
    """Hashes chunks in their order; `update` returns at once unless the thread is far behind."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._sha256 = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._running: asyncio.Future[None] | None = None

    async def update(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes < HAND_OVER_BYTES:
            return
        if self._running is not None and not self._running.done():
            if self._waiting_bytes < MAX_WAITING_BYTES:
                return
            await self._running
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, self._feed, self._take())

    async def digest(self) -> bytes:
        """The digest of everything; the last call."""
        if self._running is not None:
            await self._running
        if self._waiting_bytes < HAND_OVER_BYTES:
            self._feed(self._take())
        else:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._feed, self._take())
        return self._sha256.digest()

    def _take(self) -> list[bytes]:
        chunks, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return chunks

    def _feed(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._sha256.update(chunk)
