"""SHA-256 and the like in a thread, while the next bytes arrive."""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait

# Below this, handing over costs more than hashing here.
HAND_OVER_BYTES = 256 * 1024
# What may wait for the thread: it hashes as fast as most disks write, so more would only be memory.
MAX_WAITING_BYTES = 2 * 1024 * 1024


class Beside:
    """Does `work` with chunks in their order; `update` returns at once unless the thread is far behind.

    What `work` raises is raised by the next call.
    """

    def __init__(self, executor: Executor, work: Callable[[bytes], object]) -> None:
        self._executor = executor
        self._work = work
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._running: Future[None] | None = None

    async def update(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes < HAND_OVER_BYTES:
            return
        if self._running is not None and not self._running.done() and self._waiting_bytes < MAX_WAITING_BYTES:
            return
        await self._settled()
        self._running = self._executor.submit(self._feed, self._take())

    async def finish(self) -> None:
        """Returns when the work is done with all chunks; the last call."""
        await self._settled()
        if self._waiting_bytes < HAND_OVER_BYTES:
            self._feed(self._take())
        else:
            self._running = self._executor.submit(self._feed, self._take())
            await self._settled()

    def stop(self) -> None:
        """Block until no thread is at work any more, whatever it came to."""
        if self._running is not None:
            wait([self._running])

    async def _settled(self) -> None:
        if self._running is None:
            return
        if self._running.done():
            self._running.result()
        else:
            await asyncio.wrap_future(self._running)

    def _take(self) -> list[bytes]:
        chunks, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return chunks

    def _feed(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._work(chunk)


class HashBeside(Beside):
    """Hashes chunks."""

    def __init__(self, executor: Executor) -> None:
        self._sha256 = hashlib.sha256()
        super().__init__(executor, self._sha256.update)

    async def digest(self) -> bytes:
        """The digest of everything; the last call."""
        await self.finish()
        return self._sha256.digest()
