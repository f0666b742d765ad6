"""Bodies as they arrive: streamed, bounded, never spooled; those in memory are counted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from starlette.requests import Request

from common.errors import Invalid, Malformed, TooLarge
from common.shares import Share, Shares
from common.web import bodies
from common.web.problems import pointer
from gristmill.wire.base import Wire
from services.front.domain.job import Owner
from services.front.use_cases.idempotency import IdempotentRequest

MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
FILE_FIELD = "file"
HASHED_BYTES = 256 * 1024

Body = TypeVar("Body", bound=Wire)


@dataclass(frozen=True, slots=True)
class Bodies:
    """Reads bodies within limits: `stall_seconds` that a client may pause, `max_json_bytes` of a file in JSON, decoded,
    and `held`, the bytes of JSON bodies in memory.
    """

    stall_seconds: float
    max_json_bytes: int
    held: Shares

    def stream(self, request: Request) -> AsyncIterator[bytes]:
        """The raw body. Raises `Malformed` when the client breaks off or stalls."""
        return bodies.stream(request, self.stall_seconds)

    async def read_json(
        self,
        request: Request,
        owner: Owner,
        model: type[Body],
        limit: int,
        *,
        default: bytes = b"",
        idempotent: IdempotentRequest | None = None,
    ) -> tuple[Body, Share]:
        """A JSON body of at most `limit` bytes, and its share of the memory, which the caller releases; `default` is
        what an empty body stands for. Raises `TooLarge`, `Malformed`, `Invalid`, `UnsupportedMediaType`, and
        `TooManyRequests` or `Unavailable` as `Shares.take`.
        """
        share = self.held.take(owner, 0)  # grows by what arrives: what is only declared costs nothing
        try:
            content = await bodies.read(request, limit, self.stall_seconds, share.grow)
            if content:
                bodies.check_is_json(request)
            if idempotent is not None:
                await _hash(idempotent, content)
            return await bodies.parse(content or default, model), share
        except BaseException:
            share.release()
            raise

    async def compare_json(self, request: Request, limit: int, idempotent: IdempotentRequest) -> None:
        """The JSON body of a request that repeats another, which needs no part of the budget: it is hashed as it comes,
        up to `limit` bytes. Raises `IdempotencyKeyReused`, `TooLarge`, `Malformed`, `UnsupportedMediaType`.
        """
        bodies.check_is_json(request)
        idempotent.describe([bodies.JSON])
        size = 0
        async for chunk in idempotent.hashed(self.stream(request)):
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The body is larger than {limit} bytes.")
        await idempotent.seal()


async def _hash(idempotent: IdempotentRequest, content: bytes) -> None:
    idempotent.describe([bodies.JSON])

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), HASHED_BYTES):
            yield content[at : at + HASHED_BYTES]
            await asyncio.sleep(0)  # other requests run between two pieces

    async for _ in idempotent.hashed(pieces()):
        pass


@dataclass(frozen=True, slots=True)
class FormFile:
    """What comes before a file's bytes in a form: the fields, in order, and the headers of the file."""

    fields: list[tuple[str, str]]
    filename: str | None
    content_type: str | None


class Form:
    """A `multipart/form-data` body (RFC 7578): fields first, then the one field `file`, which streams."""

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        _, options = parse_options_header(content_type)
        try:
            self._parser = PushMultipartParser(
                options.get("boundary", ""), max_segment_count=MAX_FIELDS + 1, strict=True
            )
        except MultipartError as error:
            raise Malformed(f"The form can't be read: {error}.") from None
        self._body = body
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
