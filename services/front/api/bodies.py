"""Bodies as they arrive: streamed, bounded, never spooled."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from common.errors import Invalid, Malformed, TooLarge
from common.web.problems import pointer

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
FILE_FIELD = "file"


async def stream(request: Request) -> AsyncIterator[bytes]:
    """The raw body. Raises `Malformed` when the client breaks off, so that a part never passes for the whole, and when
    it sends nothing for the application's `stall_seconds`.
    """
    stall_seconds: float = request.app.state.stall_seconds
    chunks = request.stream()
    try:
        while True:
            # Around each chunk, and not around the loop: a blob that is slow is no fault of the client's.
            async with asyncio.timeout(stall_seconds):
                chunk = await anext(chunks)
            if chunk:
                yield chunk
    except StopAsyncIteration:
        return
    except ClientDisconnect:
        raise Malformed("The body is shorter than declared.") from None
    except TimeoutError:
        # Closed even when what is missing is short: whoever drips would keep the connection for ever.
        raise Malformed("The body stalled.", headers={"Connection": "close"}) from None


async def read(request: Request, limit: int) -> bytes:
    """The whole of a small body. Raises `TooLarge` at the limit."""
    chunks, size = [], 0
    async for chunk in stream(request):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


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
