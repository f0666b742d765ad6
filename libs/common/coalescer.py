"""Group commit for asyncio: calls that arrive while one batch is under way share the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from common.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

TURNS = 3


async def let_others_join() -> None:
    """Yield three turns of the loop so that more callers can join: wake the previous callers, let them read, let them
    enqueue.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Coalescer(Generic[Item, Result]):
    """Turns many awaited calls into few batches, without adding a delay when idle.

    The seed is the group commit of databases: the first call runs at once and alone; those that come while it runs, or
    within a moment after, form the next batch. A waiter that is cancelled leaves the others alone. `run` takes the
    items of a batch and returns one result for each, in their order; an exception among the results is raised to that
    item's waiter only.

    When `run` itself raises, nobody fails for a neighbour: each half of the batch is run once more by itself, down to
    the items at fault, so it must be safe to repeat. Not so where `is_away` holds for the exception: then it is no
    item's, and all of the batch get it.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        is_away: Callable[[Exception], bool] = lambda error: isinstance(error, Unavailable),
        max_batch: int = 256,
        max_waiting: int = 20_000,
    ) -> None:
        self._run = run
        self._is_away = is_away
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The result for `item`. Raises `Unavailable` when too many calls wait already."""
        if len(self._waiting) >= self._max_waiting:
            raise Unavailable
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                size = min(len(self._waiting), self._max_batch)
                batch = [self._waiting.popleft() for _ in range(size)]
                await self._run_batch([entry for entry in batch if not entry[1].done()])
                if len(self._waiting) < self._max_batch:
                    await let_others_join()
        except asyncio.CancelledError:
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
            raise
        finally:
            self._worker = None

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        if not batch:
            return
        try:
            results = await self._results([item for item, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _results(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return await self._run(items)
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits, whatever it is
            if len(items) == 1 or self._is_away(error):
                return [error] * len(items)
        half = len(items) // 2
        return [*await self._results(items[:half]), *await self._results(items[half:])]
