"""One bucket, and how it is called: with a deadline, and with errors that say what blob's port promises.

botocore tries again what fails for a moment (SlowDown, 5xx, a broken connection), with jitter and within a budget that
all calls share; what is left after that is final here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from common.errors import NotFound, StorageFull, Unavailable
from common.logging import get_logger

if TYPE_CHECKING:  # only the development environment has the types
    from types_aiobotocore_s3 import S3Client

# A call that moves few bytes, or one part, all its tries included.
CALL_SECONDS = 20.0
PART_SECONDS = 120.0
# What may be under way at once, downloads that slow readers hold open included. More have to wait.
CONNECTIONS = 128

_MISSING = {"404", "NoSuchKey", "NoSuchUpload"}
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}

log = get_logger()


class PreconditionFailed(Exception):  # noqa: N818 - S3's word
    """`If-None-Match`, `If-Match` or `Range` did not fit, or another conditional write of the same key is under way."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is and how it is kept. Credentials come by the usual chain of AWS."""

    bucket: str
    region: str
    endpoint: str | None = None
    public_endpoint: str | None = None
    addressing: Literal["path", "virtual"] = "path"
    sse: Literal["none", "AES256", "aws:kms"] = "none"
    sse_kms_key_id: str | None = None
    conditional_writes: bool = True

    def encryption(self) -> dict[str, Any]:
        """The arguments that a new object is encrypted by."""
        if self.sse == "none":
            return {}
        key = {"SSEKMSKeyId": self.sse_kms_key_id} if self.sse_kms_key_id else {}
        return {"ServerSideEncryption": self.sse, **key}


@dataclass(frozen=True, slots=True)
class Bucket:
    """A client, and what goes into its calls."""

    client: "S3Client"
    name: str
    encryption: dict[str, Any]
    conditional_writes: bool = True
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def lock(self, key: str) -> asyncio.Lock:
        """One writer at a time completes a key: SeaweedFS lets two through that ask in the same moment."""
        return self._locks.setdefault(key, asyncio.Lock())


@asynccontextmanager
async def open_client(
    options: S3Options, endpoint: str | None, session: aioboto3.Session | None = None
) -> AsyncIterator["S3Client"]:
    """A client for `endpoint`, or for AWS itself when that is None. `session` brings its own credentials."""
    config = AioConfig(
        signature_version="s3v4",
        # Trailing checksums are what many stores lack; every body of ours has its checksum in a signed header instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": options.addressing, "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=CONNECTIONS,
    )
    async with (session or aioboto3.Session()).client(
        "s3", endpoint_url=endpoint, region_name=options.region, config=config
    ) as client:
        yield client


@asynccontextmanager
async def open_bucket(options: S3Options, session: aioboto3.Session | None = None) -> AsyncIterator[Bucket]:
    """The bucket as blob itself uses it."""
    async with open_client(options, options.endpoint, session) as client:
        yield Bucket(client, options.bucket, options.encryption(), options.conditional_writes)


@asynccontextmanager
async def calling(seconds: float = CALL_SECONDS) -> AsyncIterator[None]:
    """Calls to the store, which get `seconds` altogether.

    Raises `NotFound` for a key or an upload that isn't there, `PreconditionFailed`, `StorageFull`, and `Unavailable`.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except ClientError as error:
        raise _refusal(error) from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        log.error("blob.store_failed", error=repr(error))
        raise Unavailable("The store failed.") from error


def _refusal(error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _MISSING:
        return NotFound()
    if status in (412, 416) or code == "ConditionalRequestConflict":
        return PreconditionFailed(code)
    log.error("blob.store_failed", error=code, status=status, operation=error.operation_name)
    if status == 507 or code in _FULL:
        return StorageFull()
    return Unavailable("The store failed.")
