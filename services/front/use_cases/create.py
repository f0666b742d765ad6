"""Create a job: from a JSON body that is held, or from bytes that stream through."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from common import telemetry
from common.contracts.blob import BlobLabels
from common.crash import crash_at
from common.errors import DigestMismatch, Invalid, Problem, TooLarge, Unavailable, UnsupportedMediaType
from common.ids import input_blob_id
from common.logging import get_logger
from gristmill.wire.processors import Encoding
from gristmill.wire.public import JobRequest
from services.front.domain import media, names
from services.front.domain.job import Job, NewJob, Owner
from services.front.domain.retention import Retention
from services.front.domain.terms import Terms
from services.front.ports import Blobs, InlineStore, JobStore
from services.front.use_cases.advance import Advance
from services.front.use_cases.catalogue import Catalogue, CatalogueEntry
from services.front.use_cases.full_tenants import FullTenants
from services.front.use_cases.idempotency import Turn

DRAIN_SECONDS = 3

log = get_logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client says of a job beside its parameters, in its own words; None for what it doesn't say."""

    processor: str | None
    name: str | None
    mimetype: str | None
    retention: str | None
    deadline: str | None
    encoding: Encoding | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with a file, checked against what the processor takes."""

    processor: str
    params: Mapping[str, Any]
    name: str
    mimetype: str
    retention: Retention
    deadline_seconds: int
    max_bytes: int
    encoding: Encoding | None = None


class Background:
    """Work that goes on after its answer was sent. A process that dies loses none of it: the tracker takes it up."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._tasks: set[asyncio.Task[None]] = set()

    def carry_on(self, job: Job) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, job: Job) -> None:
        try:
            await self._advance.carry_on(job)
        except Problem as problem:
            log.warning("job.left_to_tracker", job=job.id, status=job.status, reason=problem.slug)
        except Exception:
            log.exception("job.left_to_tracker", job=job.id, status=job.status)

    async def drain(self) -> None:
        """Let what runs come to its end for a moment; what doesn't is the tracker's."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()


class CreateJob:
    """Creates jobs. Nothing is stored before the processor, its parameters and the media type are known to fit."""

    def __init__(
        self,
        jobs: JobStore,
        inline: InlineStore,
        blobs: Blobs,
        catalogue: Catalogue,
        background: Background,
        *,
        terms: Terms,
        full_tenants: FullTenants,
        max_json_bytes: int,
        max_held_bytes: int,
        max_waiting_bytes: int,
        lease_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._inline = inline
        self._blobs = blobs
        self._catalogue = catalogue
        self._background = background
        self._terms = terms
        self._full_tenants = full_tenants
        self._max_json_bytes = max_json_bytes
        self._max_held_bytes = max_held_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._lease_seconds = lease_seconds
        self._held_bytes = 0

    def admit(self, owner: Owner) -> None:
        """Raises `TooManyRequests` for a tenant that has too much in the queue, before a byte is taken."""
        self._full_tenants.check(owner.tenant)

    async def order(self, asked: Asked, params: Iterable[tuple[str, str]]) -> Order:
        """An order whose parameters are texts, as in a query string or a form. Raises `Invalid`,
        `UnsupportedMediaType`.
        """
        wanted = asked.processor or self._terms.default_processor
        entry = await self._catalogue.find(wanted)
        return self._checked(wanted, entry, asked, entry.params.from_text(params))

    async def from_stream(
        self,
        owner: Owner,
        order: Order,
        body: AsyncIterator[bytes],
        size: int | None,
        sha256: str | None,
        turn: Turn,
    ) -> Job:
        """A job from bytes that go on to blob as they come. `size` (bytes) and `sha256` (hex) are what the client
        declared, if it did; blob checks both. The job is written only once blob has all of it, as `STORED`.
        """
        if size is not None and size > order.max_bytes:
            raise self._too_large(order.max_bytes)
        labels = BlobLabels(tenant=owner.tenant, subject=owner.subject, name=order.name, media_type=order.mimetype)
        blob = await self._blobs.put(
            input_blob_id(turn.id), self._inspected(body, order), size=size, sha256=sha256, labels=labels
        )
        await turn.seal()
        new = _new_job(turn.id, owner, order, blob.size, blob.sha256)
        crash_at("front.writing")
        job = await self._jobs.insert_stored(new, self._lease_seconds)
        crash_at("front.written")
        self._background.carry_on(job)
        return job

    async def _inspected(self, body: AsyncIterator[bytes], order: Order) -> AsyncIterator[bytes]:
        head, size, checked = b"", 0, False
        async for chunk in body:
            size += len(chunk)
            if size > order.max_bytes:
                raise self._too_large(order.max_bytes)
            if checked:
                yield chunk
                continue
            head += chunk
            if len(head) >= media.SNIFFED_BYTES:
                media.check_signature(order.mimetype, head, order.encoding)
                checked = True
                yield head
        if not checked:
            if not head:
                raise Invalid(errors=[{"pointer": "", "detail": "The file is empty."}])
            media.check_signature(order.mimetype, head, order.encoding)
            yield head

    async def drain(self, body: AsyncIterator[bytes]) -> None:
        """Read a body that nothing is made of. Raises `TooLarge` when no processor would take it."""
        size = 0
        async for chunk in body:
            size += len(chunk)
            if size > self._terms.limits.max_input_bytes:
                raise self._too_large(self._terms.limits.max_input_bytes)

    def json_limit(self) -> int:
        """The size of the largest JSON body, in bytes: base64, and room for the rest."""
        return self._max_json_bytes * 4 // 3 + 256 * 1024

    def hold(self, size: int) -> None:
        """Count bytes of JSON bodies in memory. Raises `Unavailable` when there are too many already."""
        if self._held_bytes + size > self._max_held_bytes:
            raise Unavailable("Too many JSON bodies are under way; send the file raw, or try again.")
        self._held_bytes += size

    def let_go(self, size: int) -> None:
        self._held_bytes -= size

    async def from_json(self, owner: Owner, request: JobRequest, turn: Turn) -> tuple[Job, asyncio.Task[None]]:
        """A job whose bytes wait in `inline` until blob has them. Returns as soon as both are written, with the task
        that takes it further.
        """
        content = await asyncio.to_thread(self._decoded, request)
        wanted = request.processor or self._terms.default_processor
        entry = await self._catalogue.find(wanted)
        asked = Asked(request.processor, request.name, request.mimetype, request.retention, request.deadline)
        order = self._checked(wanted, entry, asked, request.params)
        if len(content) > order.max_bytes:
            raise self._too_large(order.max_bytes)
        media.check_signature(order.mimetype, content[: media.SNIFFED_BYTES])
        if await self._inline.waiting_bytes() + len(content) > self._max_waiting_bytes:
            raise Unavailable("Too much waits to be stored; send the file raw, or try again.")
        await turn.seal()
        await self._inline.put(turn.id, content)
        crash_at("front.writing")
        job = await self._jobs.insert_created(_new_job(turn.id, owner, order, len(content)), self._lease_seconds)
        crash_at("front.written")
        return job, self._background.carry_on(job)

    def _decoded(self, request: JobRequest) -> bytes:
        try:
            content = base64.b64decode(request.content, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid(errors=[{"pointer": "/content", "detail": "This isn't base64."}]) from None
        if not content:
            raise Invalid(errors=[{"pointer": "/content", "detail": "The file is empty."}])
        if len(content) > self._max_json_bytes:
            raise self._too_large(self._max_json_bytes)
        if request.md5 is not None:
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != request.md5.lower():
                raise DigestMismatch
        return content

    @staticmethod
    def _too_large(limit: int) -> TooLarge:
        return TooLarge(f"The file is larger than {limit} bytes.")

    def _checked(self, wanted: str, entry: CatalogueEntry, asked: Asked, params: Mapping[str, Any]) -> Order:
        mimetype = media.parse(asked.mimetype)
        if not media.is_accepted(mimetype, entry.media_types):
            takes = ", ".join(entry.media_types)
            raise UnsupportedMediaType(f"{entry.name} takes {takes}, not {mimetype}.")
        entry.params.check(params)
        return Order(
            processor=wanted,
            params=params,
            name=names.clean(asked.name),
            mimetype=mimetype,
            retention=self._terms.retention(asked.retention),
            deadline_seconds=self._terms.deadline(asked.deadline),
            max_bytes=self._terms.limits.max_bytes(entry.name, mimetype, entry.max_input_bytes),
            encoding=asked.encoding,
        )


def _new_job(job_id: str, owner: Owner, order: Order, size: int, sha256: str | None = None) -> NewJob:
    return NewJob(
        id=job_id,
        owner=owner,
        name=order.name,
        mimetype=order.mimetype,
        size=size,
        processor=order.processor,
        params=order.params,
        sha256=sha256,
        retention=order.retention,
        encoding=order.encoding,
        deadline_seconds=order.deadline_seconds,
        traceparent=telemetry.traceparent(),
    )
