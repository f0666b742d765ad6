"""Bodies as they arrive: streamed, bounded, never spooled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import Request

from common.errors import Invalid, Malformed, TooLarge
from common.web import bodies
from common.web.problems import pointer
from gristmill.wire.base import Wire
from services.front.use_cases.create import CreateJob
from services.front.use_cases.idempotency import Turn

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
FILE_FIELD = "file"
HASHED_BYTES = 256 * 1024

Body = TypeVar("Body", bound=Wire)


def stream(request: Request) -> AsyncIterator[bytes]:
    """The raw body, from a client that stalls for no longer than the application's `stall_seconds`."""
    stall_seconds: float = request.app.state.stall_seconds
    return bodies.stream(request, stall_seconds)


@asynccontextmanager
async def held_json(
    request: Request,
    create: CreateJob,
    model: type[Body],
    limit: int,
    *,
    nothing: bytes = b"",
    turn: Turn | None = None,
) -> AsyncIterator[Body]:
    """A JSON body, counted among those that this front holds; `nothing` is what stands for an empty one. Raises
    `TooLarge`, `Malformed`, `Invalid`, `UnsupportedMediaType`, and `Unavailable` when there are too many.
    """
    stall_seconds: float = request.app.state.stall_seconds
    held = min(limit, bodies.declared_size(request) or limit)
    create.hold(held)
    try:
        content = await bodies.read(request, limit, stall_seconds)
        if content:
            bodies.check_is_json(request)
        if turn is not None:
            await hash_held(turn, content)
        yield await bodies.parse(content or nothing, model)
    finally:
        create.let_go(held)


async def hash_held(turn: Turn, content: bytes) -> None:
    """Hash a JSON body that is held, for its turn."""
    turn.says([bodies.JSON])

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), HASHED_BYTES):
            yield content[at : at + HASHED_BYTES]
            await asyncio.sleep(0)  # others get their turn

    async for _ in turn.hashed(pieces()):
        pass


@dataclass(frozen=True, slots=True)
class FormFile:
    """What comes before a file's bytes in a form: the fields, in order, and what the file says of itself."""

    fields: list[tuple[str, str]]
    filename: str | None
    content_type: str | None


class Form:
    """A `multipart/form-data` body (RFC 7578): fields first, then the one field `file`, which streams."""

    def __init__(self, request: Request) -> None:
        _, options = parse_options_header(request.headers.get("content-type", ""))
        try:
            self._parser = PushMultipartParser(
                options.get("boundary", ""), max_segment_count=MAX_FIELDS + 1, strict=True
            )
        except MultipartError as error:
            raise Malformed(f"The form can't be read: {error}.") from None
        self._body = stream(request)
        self._events = self._parsed()

    async def _parsed(self) -> AsyncIterator[MultipartSegment | bytearray | None]:
        try:
            async for chunk in self._body:
                for event in self._parser.parse(chunk):
                    yield event
            self._parser.close()
        except MultipartError as error:
            raise Malformed(f"The form can't be read: {error}.") from None

    async def open_file(self) -> FormFile:
        """Read up to the file. Raises `Invalid` when there is none, `Malformed`, `TooLarge`."""
        fields: list[tuple[str, str]] = []
        name, value, total = "", bytearray(), 0
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                if event.name == FILE_FIELD:
                    return FormFile(fields, event.filename, event.header("Content-Type"))
                name, value = event.name or "", bytearray()
            elif event is None:
                fields.append((name, _text(name, value)))
            else:
                total += len(event)
                if total > MAX_FIELD_BYTES:
                    raise TooLarge(f"A form's fields have at most {MAX_FIELD_BYTES} bytes.")
                value += event
        raise Invalid(errors=[{"pointer": f"/{FILE_FIELD}", "detail": "The form has no file."}])

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes. Raises `Invalid` when fields come after it, `Malformed` when the form breaks off."""
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                raise Invalid(
                    errors=[{"pointer": pointer((event.name,)), "detail": f"Fields come before `{FILE_FIELD}`."}]
                )
            if event:
                yield bytes(event)


def _text(name: str, value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid(errors=[{"pointer": pointer((name,)), "detail": "This isn't UTF-8."}]) from None
