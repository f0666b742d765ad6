"""Media types: what a client says that its bytes are, and whether they can be that."""

import re

import puremagic

from common.errors import UnsupportedMediaType

SNIFFED_BYTES = 4096
OCTET_STREAM = "application/octet-stream"
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105 - a grammar's token (RFC 6838), not a secret
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})\s*(;.*)?")
# Types whose files always begin with a known signature, so that other bytes can be told.
_SIGNED = {
    "image/jpeg": {"image/jpeg"},
    "image/png": {"image/png"},
    "image/gif": {"image/gif"},
    "image/webp": {"image/webp"},
    "image/tiff": {"image/tiff"},
    "image/avif": {"image/avif", "image/heif", "image/heic"},
    "image/heic": {"image/heic", "image/heif", "image/avif"},
    "image/heif": {"image/heic", "image/heif", "image/avif"},
    "application/pdf": {"application/pdf"},
}


def parse(value: str | None) -> str:
    """The bare, lower-case media type of a `Content-Type`. Raises `UnsupportedMediaType` when it isn't one."""
    if not value:
        return OCTET_STREAM
    match = _MEDIA_TYPE.fullmatch(value.strip())
    if match is None:
        raise UnsupportedMediaType("The media type can't be read; it looks like `image/png`.")
    return match[1].lower()


def safe(value: str) -> str:
    """A media type that can stand in a header, whatever a processor said."""
    try:
        return parse(value)
    except UnsupportedMediaType:
        return OCTET_STREAM


def is_accepted(mimetype: str, accepted: list[str]) -> bool:
    """Whether `mimetype` is among `accepted`, which may hold `*/*` and `image/*`."""
    family = mimetype.split("/", 1)[0] + "/*"
    return any(pattern in ("*/*", family, mimetype) for pattern in accepted)


def check_signature(mimetype: str, head: bytes) -> None:
    """Raises `UnsupportedMediaType` when the first bytes of a file can't be of its media type."""
    expected = _SIGNED.get(mimetype)
    if expected is None:
        return
    try:
        found = {match.mime_type for match in puremagic.magic_string(head)}
    except (puremagic.PureError, ValueError):
        found = set()
    if not found & expected:
        raise UnsupportedMediaType(f"The bytes aren't {mimetype}.")
