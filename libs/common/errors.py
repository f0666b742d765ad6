"""Every refusal, in one tree. Each class is one problem type of RFC 9457, and its docstring is its default detail.

The core raises these; `common.web.problems` renders them; `/problems` lists them for readers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

TYPE_PREFIX = "/problems/"


class Problem(Exception):  # noqa: N818 - the RFC's word, and not each of them is an error
    """The service failed in a way that it did not foresee. It has been logged."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    default_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.detail = detail or self.default_detail()
        self.headers = {**self.default_headers, **(headers or {})}
        self.errors = list(errors)
        super().__init__(self.detail)

    @classmethod
    def default_detail(cls) -> str:
        return " ".join((cls.__doc__ or "").split())

    @classmethod
    def title(cls) -> str:
        """The class's name as words: `ResultNotReady` is "Result not ready"."""
        return re.sub(r"(?<!^)(?=[A-Z])", " ", cls.__name__).capitalize()

    def document(self) -> dict[str, Any]:
        """The RFC 9457 problem document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = self.errors
        return document


class Malformed(Problem):
    """The request can't be read: its syntax is wrong."""

    status, slug = 400, "malformed"


class Unauthorized(Problem):
    """The request has no valid token. Send `Authorization: Bearer <token>` with a token meant for this service."""

    status, slug = 401, "unauthorized"
    default_headers: ClassVar = {"WWW-Authenticate": "Bearer"}


class Forbidden(Problem):
    """The token is valid, but its holder may not do this."""

    status, slug = 403, "forbidden"


class NotFound(Problem):
    """There is nothing here, or it isn't yours."""

    status, slug = 404, "not-found"


class ResultNotReady(Problem):
    """The job has not ended yet. Ask again after the seconds in `Retry-After`."""

    status, slug = 404, "result-not-ready"
    default_headers: ClassVar = {"Retry-After": "1"}


class ResultNotAvailable(Problem):
    """The job ended without this output, so it will never exist."""

    status, slug = 404, "result-not-available"


class MethodNotAllowed(Problem):
    """This address doesn't take this method; `Allow` names those it takes."""

    status, slug = 405, "method-not-allowed"


class Conflict(Problem):
    """The request conflicts with the present state."""

    status, slug = 409, "conflict"


class StaleFence(Problem):
    """The run has been taken from this processor, or has ended. Nothing was changed."""

    status, slug = 409, "stale-fence"


class ResultDeleted(Problem):
    """The output's bytes were deleted when their time was over. The job itself can still be read."""

    status, slug = 410, "result-deleted"


class AlreadyExists(Problem):
    """A blob with this id exists and holds other bytes. Blobs are written once."""

    status, slug = 412, "already-exists"


class TooLarge(Problem):
    """The body is larger than the limit."""

    status, slug = 413, "too-large"


class UnsupportedMediaType(Problem):
    """The processor doesn't take this media type, or the bytes aren't of that media type."""

    status, slug = 415, "unsupported-media-type"


class RangeNotSatisfiable(Problem):
    """The range lies outside the blob."""

    status, slug = 416, "range-not-satisfiable"


class Invalid(Problem):
    """The request can be read, but isn't valid; `errors` points at each fault."""

    status, slug = 422, "invalid"


class DigestMismatch(Problem):
    """The bytes that arrived don't have the digest that was declared. Nothing was kept."""

    status, slug = 422, "digest-mismatch"


class IdempotencyKeyReused(Problem):
    """Another request has had this `Idempotency-Key`: its body, its media type or its parameters differ."""

    status, slug = 422, "idempotency-key-reused"


class TooManyRequests(Problem):
    """There is too much of yours here already. Try again after `Retry-After` seconds."""

    status, slug = 429, "too-many-requests"
    default_headers: ClassVar = {"Retry-After": "5"}


class RateLimited(Problem):
    """You have made more requests than you may. Try again after `Retry-After` seconds."""

    status, slug = 429, "rate-limited"
    default_headers: ClassVar = {"Retry-After": "1"}


class BadGateway(Problem):
    """A service behind this one sent a response that can't be used."""

    status, slug = 502, "bad-gateway"


class Unavailable(Problem):
    """A part that this request needs can't be reached or is overloaded. Try again after `Retry-After` seconds."""

    status, slug = 503, "unavailable"
    default_headers: ClassVar = {"Retry-After": "1"}


class StorageFull(Problem):
    """There is no room left to keep the bytes. Nothing was kept."""

    status, slug = 507, "storage-full"


def all_problems(base: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every problem type, the base first."""
    yield base
    for child in base.__subclasses__():
        yield from all_problems(child)


def problem_from(status: int, document: Mapping[str, Any], retry_after: str | None = None) -> Problem:
    """The problem of another service's response, as the class it was raised as there, with its `Retry-After`."""
    slug = str(document.get("type", "")).removeprefix(TYPE_PREFIX)
    detail = str(document.get("detail") or "") or None
    for kind in all_problems():
        if kind.slug == slug and kind.status == status:
            headers = {"Retry-After": retry_after} if retry_after is not None else None
            return kind(detail, headers=headers, errors=document.get("errors", ()))
    if status >= 500:
        return Unavailable(detail)
    return BadGateway(f"An unforeseen response: {status} {slug}".strip())
