"""Create a job from a submission: content that streams through to blob, or that waits in MongoDB until blob has it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import telemetry
from common.contracts.blob import BlobLabels
from common.crash import crash_at
from common.errors import Invalid, Problem, TooLarge, Unavailable, UnsupportedMediaType
from common.ids import input_blob_id
from common.logging import get_logger
from common.shares import Shares
from gristmill.wire.processors import Encoding
from services.front.domain import media, names
from services.front.domain.job import Job, NewJob, Owner
from services.front.domain.retention import Retention
from services.front.domain.terms import Terms
from services.front.ports import Blobs, InlineStore, JobStore
from services.front.use_cases.advance import Advance
from services.front.use_cases.catalogue import Catalogue
from services.front.use_cases.idempotency import IdempotentRequest
from services.front.use_cases.quota import Quota
from services.front.use_cases.submitted import LateSubmitted

DRAIN_SECONDS = 3

log = get_logger()


def _nothing() -> None:
    """For a submission that holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """The options of a file beside the processor's parameters, as text; None for those that the client leaves out."""

    processor: str | None = None
    name: str | None = None
    mimetype: str | None = None
    retention: str | None = None
    deadline: str | None = None
    encoding: Encoding | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A file as a client hands it in, whichever kind of body it came in.

    `content` streams to blob, or, as bytes, waits in MongoDB until blob has it. `params` are JSON values by name, or
    pairs of texts as in a query string. `size` (bytes) and `sha256` (hex) are what the client declared, if it did.
    `release` is called once, when the content isn't in memory any more.
    """

    options: SubmissionOptions
    params: Mapping[str, Any] | Sequence[tuple[str, str]]
    content: AsyncIterator[bytes] | bytes
    size: int | None = None
    sha256: str | None = None
    release: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is to be done with a file, checked against what the processor takes. `max_bytes` is the largest that the
    file may be.
    """

    processor: str
    params: Mapping[str, Any]
    name: str
    mimetype: str
    retention: Retention
    deadline_seconds: int
    max_bytes: int
    encoding: Encoding | None = None


class Background:
    """Work that goes on after its response was sent. A process that dies loses none of it: the tracker takes it up."""

    def __init__(self, advance: Advance, late: LateSubmitted) -> None:
        self._advance = advance
        self._late = late
        self._tasks: set[asyncio.Task[None]] = set()

    def carry_on(self, job: Job) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, job: Job) -> None:
        try:
            if await self._advance.hand_over(job):
                crash_at("front.submitted")
                self._late.add(job.id)
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
        uploads: Shares,
        quota: Quota,
        max_waiting_bytes: int,
        lease_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._inline = inline
        self._blobs = blobs
        self._catalogue = catalogue
        self._background = background
        self._terms = terms
        self._uploads = uploads
        self._quota = quota
        self._max_waiting_bytes = max_waiting_bytes
        self._lease_seconds = lease_seconds

    async def __call__(self, owner: Owner, submission: Submission, request: IdempotentRequest) -> Job | None:
        """The new job, `STORED` where its content was streamed, else `CREATED`; None when the request repeats another
        one, and its job is there already: then the content streams, for it is only compared.

        Raises `Invalid`, `UnsupportedMediaType`, `TooLarge`, `Unavailable` while too much waits to be stored, what blob
        raises, and what `IdempotentRequest.seal` and `Shares.take` do.
        """
        if isinstance(submission.content, bytes):
            return await self._inline_job(owner, submission, submission.content, request)
        if request.repeats:
            await self._drain(submission.content)
            await request.seal()
            return None
        with self._uploads.take(owner):
            return await self._streamed_job(owner, submission, submission.content, request)

    async def _streamed_job(
        self, owner: Owner, submission: Submission, content: AsyncIterator[bytes], request: IdempotentRequest
    ) -> Job:
        """The job is written only once blob has all of its content. blob checks the declared size and digest."""
        spec = await self._spec(submission)
        await self._quota.check(owner, submission.size or 0)
        labels = BlobLabels(tenant=owner.tenant, subject=owner.subject, name=spec.name, media_type=spec.mimetype)
        blob = await self._blobs.put(
            input_blob_id(request.id),
            self._inspected(owner, content, spec),
            size=submission.size,
            sha256=submission.sha256,
            labels=labels,
        )
        await request.seal()
        new = _new_job(request.id, owner, spec, blob.size, blob.sha256)
        crash_at("front.writing")
        job = await self._jobs.insert_stored(new, self._lease_seconds)
        self._quota.added(owner, blob.size)
        crash_at("front.written")
        self._background.carry_on(job)
        return job

    async def _inline_job(
        self, owner: Owner, submission: Submission, content: bytes, request: IdempotentRequest
    ) -> Job:
        """The content waits in `inline` until blob has it; it is written before the job is."""
        try:
            spec = await self._spec(submission)
            await self._quota.check(owner, len(content))
            media.check_signature(spec.mimetype, content[: media.SNIFFED_BYTES])
            if await self._inline.waiting_bytes() + len(content) > self._max_waiting_bytes:
                raise Unavailable("Too much waits to be stored; send the file raw, or try again.")
            await request.seal()
            await self._inline.put(request.id, content)
            crash_at("front.writing")
            job = await self._jobs.insert_created(_new_job(request.id, owner, spec, len(content)), self._lease_seconds)
            self._quota.added(owner, len(content))
            crash_at("front.written")
        except BaseException:
            submission.release()
            raise
        self._background.carry_on(job).add_done_callback(lambda _: submission.release())
        return job

    async def _inspected(self, owner: Owner, content: AsyncIterator[bytes], spec: JobSpec) -> AsyncIterator[bytes]:
        head, size, checked = b"", 0, False
        async for chunk in content:
            size += len(chunk)
            if size > spec.max_bytes:
                raise _too_large(spec.max_bytes)
            await self._quota.check(owner, size)  # which wasn't declared, or is that
            if checked:
                yield chunk
                continue
            head += chunk
            if len(head) >= media.SNIFFED_BYTES:
                media.check_signature(spec.mimetype, head, spec.encoding)
                checked = True
                yield head
        if not checked:
            if not head:
                raise Invalid(errors=[{"pointer": "", "detail": "The file is empty."}])
            media.check_signature(spec.mimetype, head, spec.encoding)
            yield head

    async def _drain(self, content: AsyncIterator[bytes]) -> None:
        """Read content that is only compared with an earlier request's. Raises `TooLarge` over the largest limit."""
        size = 0
        async for chunk in content:
            size += len(chunk)
            if size > self._terms.limits.max_input_bytes:
                raise _too_large(self._terms.limits.max_input_bytes)

    async def _spec(self, submission: Submission) -> JobSpec:
        """Raises `Invalid`, `UnsupportedMediaType`, and `TooLarge` for a declared size over the limit."""
        options = submission.options
        processor = options.processor or self._terms.default_processor
        entry = await self._catalogue.find(processor)
        given = submission.params
        params = given if isinstance(given, Mapping) else entry.params.from_text(given)
        mimetype = media.parse(options.mimetype)
        if not media.is_accepted(mimetype, entry.media_types):
            takes = ", ".join(entry.media_types)
            raise UnsupportedMediaType(f"{entry.name} takes {takes}, not {mimetype}.")
        entry.params.check(params)
        spec = JobSpec(
            processor=processor,
            params=params,
            name=names.clean(options.name),
            mimetype=mimetype,
            retention=self._terms.retention(options.retention),
            deadline_seconds=self._terms.deadline(options.deadline),
            max_bytes=self._terms.limits.max_bytes(entry.name, mimetype, entry.max_input_bytes),
            encoding=options.encoding,
        )
        if submission.size is not None and submission.size > spec.max_bytes:
            raise _too_large(spec.max_bytes)
        return spec


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The file is larger than {limit} bytes.")


def _new_job(job_id: str, owner: Owner, spec: JobSpec, size: int, sha256: str | None = None) -> NewJob:
    return NewJob(
        id=job_id,
        owner=owner,
        name=spec.name,
        mimetype=spec.mimetype,
        size=size,
        processor=spec.processor,
        params=spec.params,
        sha256=sha256,
        retention=spec.retention,
        encoding=spec.encoding,
        deadline_seconds=spec.deadline_seconds,
        traceparent=telemetry.traceparent(),
    )
