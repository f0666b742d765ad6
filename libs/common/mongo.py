"""How the services reach MongoDB: majority writes, deadlines on everything, and errors that say what to do."""

from collections.abc import Mapping
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, ExecutionTimeout, NotPrimaryError, PyMongoError, WTimeoutError
from pymongo.read_concern import ReadConcern

Document = dict[str, Any]
Client = AsyncMongoClient[Document]

TIMEOUT_MS = 5_000


def connect(uri: str) -> Client:
    """A client that waits for a majority to have each write on disk, and gives up on anything after 5 s.

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
    )


def is_unavailable(error: PyMongoError) -> bool:
    """Whether the database could not be reached or did not answer in time, so that a later try may succeed."""
    return error.timeout or isinstance(error, ConnectionFailure | ExecutionTimeout | NotPrimaryError | WTimeoutError)


def literal(value: object) -> dict[str, object]:
    """`value` as it is, inside a pipeline, where a string such as `$name` would otherwise be an expression."""
    return {"$literal": value}


def literals(fields: Mapping[str, object]) -> Document:
    """Each field's value as it is, for a pipeline's `$set`."""
    return {name: literal(value) for name, value in fields.items()}


MAJORITY = ReadConcern("majority")
