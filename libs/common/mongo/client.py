"""How the services reach MongoDB: majority writes, deadlines on everything, and errors that name what to do."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WriteError,
    WTimeoutError,
)
from pymongo.monitoring import CommandListener

from common.errors import Unavailable
from common.metrics import DatabaseTimes

Document = dict[str, Any]
Client = AsyncMongoClient[Document]

TIMEOUT_MS = 5_000
CLOSE_SECONDS = 1
CHANGES_SECONDS = 10


def connect(uri: str, *listeners: CommandListener) -> Client:
    """A client that waits for a majority to have each write on disk, and gives up on anything after 5 s. `listeners`
    hear of each command.

    It connects when first used, so a process starts, and says that it is not ready, while MongoDB is away.
    """
    return AsyncMongoClient(
        uri,
        w="majority",
        journal=True,
        timeoutMS=TIMEOUT_MS,
        serverSelectionTimeoutMS=TIMEOUT_MS,
        readConcernLevel="majority",
        tz_aware=True,
        maxPoolSize=50,
        event_listeners=[DatabaseTimes(), *listeners],
    )


@asynccontextmanager
async def opened(uri: str, *listeners: CommandListener) -> AsyncIterator[Client]:
    """`connect`, and a close that can't hang: a cancellation during server selection can leave PyMongo's lock held
    for good under Python 3.11, whose `asyncio.wait_for` returns before what it waited for has ended.
    """
    client = connect(uri, *listeners)
    try:
        yield client
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.close()


def is_unavailable(error: PyMongoError) -> bool:
    """Whether the database could not be reached or did not answer in time, so that a later try may succeed."""
    return error.timeout or isinstance(error, ConnectionFailure | ExecutionTimeout | NotPrimaryError | WTimeoutError)


def is_away(error: Exception) -> bool:
    """Whether an exception is of the database or a service as a whole, and of no single write: see `Coalescer`."""
    if isinstance(error, PyMongoError):
        of_a_write = isinstance(error, BulkWriteError | WriteError)
        return is_unavailable(error) or (isinstance(error, OperationFailure) and not of_a_write)
    return isinstance(error, Unavailable)


async def changes(collection: AsyncCollection[Document], pipeline: list[Document]) -> AsyncIterator[Document]:
    """The changes of a collection from now on, until the stream breaks and raises.

    Read piece by piece, so that the deadline is one for each response and not for the whole stream. A quiet stream
    has one response in 10 s.
    """
    async with await collection.watch(pipeline, max_await_time_ms=CHANGES_SECONDS * 1000) as stream:
        while stream.alive:
            with pymongo.timeout(CHANGES_SECONDS + TIMEOUT_MS / 1000):
                change = await stream.try_next()
            if change is not None:
                yield dict(change)


def literal(value: object) -> dict[str, object]:
    """`value` as it is, inside a pipeline, where a string such as `$name` would otherwise be an expression."""
    return {"$literal": value}


def literals(fields: Mapping[str, object]) -> Document:
    """Each field's value as it is, for a pipeline's `$set`."""
    return {name: literal(value) for name, value in fields.items()}
