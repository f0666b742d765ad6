"""Bodies as they arrive, and JSON of them. Nothing is read before its caller is known, and nothing without a limit:
which FastAPI's own bodies are, so no route of ours that a stranger may reach has one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from common.errors import Malformed, TooLarge, UnsupportedMediaType
from common.web.problems import invalid
from gristmill.wire.base import Wire

JSON = "application/json"
# What is longer is parsed in a thread.
SMALL_BYTES = 64 * 1024
# A body that drips holds as much as one that is large, and for longer.
LEAST_BYTES_PER_SECOND = 2 * 1024

Body = TypeVar("Body", bound=Wire)


async def stream(request: Request, stall_seconds: float) -> AsyncIterator[bytes]:
    """The raw body. Raises `Malformed` when the client breaks off, so that a part never passes for the whole, and when
    less than `LEAST_BYTES_PER_SECOND` come while it is waited for `stall_seconds`, anywhere in the body.
    """
    loop = asyncio.get_running_loop()
    least = stall_seconds * LEAST_BYTES_PER_SECOND
    chunks = request.stream()
    remaining, taken = stall_seconds, 0
    try:
        while True:
            # Around each chunk, and not around the loop: whoever takes the chunks may be slow, and no client's fault.
            waits_since = loop.time()
            async with asyncio.timeout(remaining):
                chunk = await anext(chunks)
            remaining -= loop.time() - waits_since
            taken += len(chunk)
            if taken >= least:
                remaining, taken = stall_seconds, 0
            if chunk:
                yield chunk
    except StopAsyncIteration:
        return
    except ClientDisconnect:
        raise Malformed("The body is shorter than declared.") from None
    except TimeoutError:
        # Closed even when what is missing is short: whoever drips would keep the connection for ever.
        raise Malformed("The body stalled.", headers={"Connection": "close"}) from None


def declared_size(request: Request) -> int | None:
    """The value of `Content-Length`, if it is there. Raises `Malformed`."""
    header = request.headers.get("content-length")
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise Malformed("Content-Length isn't a number of bytes.")
    return int(header)


def _count_nothing(_: int) -> None:
    """For a body whose memory nobody counts."""


async def read(
    request: Request, limit: int, stall_seconds: float, arrived: Callable[[int], None] = _count_nothing
) -> bytes:
    """The whole of a small body. Raises `TooLarge`, before a byte of it is read where its size is declared, and what
    `arrived` raises, which is called with the size of each chunk.
    """
    chunks, size = [], 0
    if (declared_size(request) or 0) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")
    async for chunk in stream(request, stall_seconds):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        arrived(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


async def parse(body: bytes, model: type[Body]) -> Body:
    """Raises `Malformed` for what is no JSON, and `Invalid` with a pointer to each fault."""
    if len(body) <= SMALL_BYTES:
        return _parse(body, model)
    return await run_in_threadpool(_parse, body, model)


def _parse(body: bytes, model: type[Body]) -> Body:
    try:
        document: Any = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Malformed("The body isn't valid JSON.") from None
    try:
        return model.model_validate(document, by_name=False, by_alias=True)
    except ValidationError as error:
        raise invalid(error, model) from None


def check_is_json(request: Request) -> None:
    """Raises `UnsupportedMediaType`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise UnsupportedMediaType(f"The body is {JSON}.")


def json_body(model: type[Body], limit: int, stall_seconds: float) -> Callable[[Request], Awaitable[Body]]:
    """A dependency that is the body of a request. FastAPI resolves a route's policy before it."""

    async def body(request: Request) -> Body:
        check_is_json(request)
        return await parse(await read(request, limit, stall_seconds), model)

    return body
