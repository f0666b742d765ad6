"""Uploads: front requests plans and states of blob.

Front keeps the facts of each upload and sends them with every call, the same each time: so blob needs no
database on any store (docs/decisions/0011-uploads.md).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gristmill.wire.base import Timestamp, Wire, without_gaps

MAX_UPLOADS = 1_000
MAX_PARTS = 10_000
MAX_URLS = 1_000
MAX_SECONDS = 30 * 86_400

UploadState = Literal["OPEN", "VERIFYING", "COMPLETE", "MISMATCH"]
"""`OPEN`: not everything is there. `VERIFYING`: everything is there, and is being read. `COMPLETE`: the blob is there,
and fits the facts; it doesn't change any more. `MISMATCH`: what came was something else, and was deleted."""


class UploadFacts(Wire):
    """What an upload is. `id` is also the blob's; `size` is in bytes and `sha256` in hex; the rest describes the file.

    `name`, `media_type`, `tenant` and `subject` are labels as front got them. They are kept where a store has
    a place for them, and no store may take them for anything else.
    """

    id: str = Field(max_length=128)
    size: int = Field(ge=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits in lower case.")
    media_type: str = Field(max_length=255)
    name: str = Field(max_length=1024)
    tenant: str = Field(max_length=256)
    subject: str = Field(max_length=256)


class UploadRequest(Wire):
    """Asks for URLs: for the missing parts from number `from` on, at most `max_urls`, good for `expires_in` seconds.

    With `max_urls` 0 it is only a question, and opens nothing in the store.
    """

    facts: UploadFacts
    from_part: int = Field(1, alias="from", ge=1, le=MAX_PARTS)
    max_urls: int = Field(MAX_URLS, ge=0, le=MAX_URLS)
    expires_in: int = Field(ge=1, le=MAX_SECONDS)


class PlanUploads(Wire):
    """The body of `POST /upload`. Each id only once. The response has up to 1,000 URLs, dealt out in order."""

    uploads: list[UploadRequest] = Field(min_length=1, max_length=MAX_UPLOADS)


class UploadPart(Wire):
    """A part, numbered from 1. It has a URL unless it was received, or the upload takes nothing any more."""

    number: int
    size: int
    received: bool
    url: str | None = None


class UploadPlan(Wire):
    """How a file is to be sent, and what of it has arrived.

    `single`: one request to `url` with the whole file; `parts` is empty. `multipart`: one request for each part, to
    the part's own URL, in any order; `parts` begins at `from`, ends where the URLs end, and `next` is the number to
    ask from for the rest (None: this was the last part). `headers` are to be sent as they are with each request.
    `Content-Length` isn't among them, because every HTTP client sends it by itself: it has to be the exact size.
    `part_size` is in bytes, and is that of every part but the last. A URL that was given earlier may be good for less
    long than `expires_at`, and a store may cut `expires_in` short; `expires_at` is that of these URLs.
    """

    id: str
    state: UploadState
    kind: Literal["single", "multipart"]
    method: Literal["PUT"] = "PUT"
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    size: int
    part_size: int | None = None
    parts: list[UploadPart] = Field(default_factory=list)
    next: int | None = None
    expires_at: Timestamp


class UploadPlans(Wire):
    """One plan for each upload, in the order of the request."""

    items: list[UploadPlan]


class CompletedPart(Wire):
    """A part that the client has sent, and the `ETag` it was answered with, as it was."""

    number: int = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(min_length=1, max_length=256)


class CompleteUpload(Wire):
    """The body of `POST /upload/{id}/complete`. `parts` are those the client knows of: sorted, from 1, without a gap.

    Where it is empty, or the store doesn't need it, the store takes the parts that it has.
    """

    facts: UploadFacts
    parts: Annotated[list[CompletedPart], AfterValidator(without_gaps)] = Field(
        default_factory=list, max_length=MAX_PARTS
    )


class UploadStatus(Wire):
    """Where an upload is. `size` in bytes and `sha256` in hex are there when it is `COMPLETE`."""

    id: str
    state: UploadState
    size: int | None = None
    sha256: str | None = None


class UploadStatusQuery(Wire):
    """The body of `POST /upload/status`."""

    uploads: list[UploadFacts] = Field(min_length=1, max_length=MAX_UPLOADS)


class UploadStatusAnswer(Wire):
    """One status for each upload, in the order of the request."""

    items: list[UploadStatus]
