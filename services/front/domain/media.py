"""Media types and encodings: what a client declares its bytes to be, and whether they can be that."""

import re
from collections.abc import Sequence
from typing import get_args

from common.errors import UnsupportedMediaType
from gristmill.signatures import signature_of
from gristmill.wire.processors import Encoding

SNIFFED_BYTES = 4096
OCTET_STREAM = "application/octet-stream"
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # noqa: S105 - a grammar's token (RFC 6838), not a secret
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})\s*(;.*)?")
_HEIF = ("image/avif", "image/heic", "image/heif")
# Types whose files always begin with a known signature, so that other bytes can be recognised.
_SIGNATURES = {
    **{kind: signature_of(kind) for kind in ("image/jpeg", "image/png", "image/gif", "image/webp", "image/tiff")},
    **dict.fromkeys(_HEIF, signature_of(*_HEIF)),
    "application/pdf": signature_of("application/pdf"),
}
_ENCODINGS: dict[str, Encoding] = {name: name for name in get_args(Encoding)} | {"x-gzip": "gzip"}  # RFC 9110, 8.4.1.3
_ENCODING_SIGNATURES: dict[Encoding, re.Pattern[bytes]] = {
    "gzip": signature_of("application/gzip"),
    "bzip2": signature_of("application/x-bzip2"),
    "xz": signature_of("application/x-xz"),
    "zstd": signature_of("application/zstd"),
}


def parse(value: str | None) -> str:
    """The bare, lower-case media type of a `Content-Type`. Raises `UnsupportedMediaType` when it isn't one."""
    if not value:
        return OCTET_STREAM
    match = _MEDIA_TYPE.fullmatch(value.strip())
    if match is None:
        raise UnsupportedMediaType("The media type can't be read; it looks like `image/png`.")
    return match[1].lower()


def parse_encoding(value: str | None) -> Encoding | None:
    """The one coding of a `Content-Encoding`, None for a body that is as it is. Raises `UnsupportedMediaType`."""
    coding = value.strip().lower() if value else "identity"
    if coding == "identity":
        return None
    if coding not in _ENCODINGS:
        takes = ", ".join(get_args(Encoding))
        raise UnsupportedMediaType(f"A Content-Encoding is one of {takes}.", headers={"Accept-Encoding": takes})
    return _ENCODINGS[coding]


def safe(value: str) -> str:
    """A media type that can stand in a header, whatever a processor declared."""
    try:
        return parse(value)
    except UnsupportedMediaType:
        return OCTET_STREAM


def is_accepted(mimetype: str, accepted: Sequence[str]) -> bool:
    """Whether `mimetype` is among `accepted`, which may hold `*/*` and `image/*`."""
    return not set(patterns(mimetype)).isdisjoint(accepted)


def patterns(mimetype: str) -> tuple[str, str, str]:
    """What a media type is known by, the most exact first: itself, `image/*`, `*/*`."""
    return mimetype, mimetype.split("/", 1)[0] + "/*", "*/*"


def check_signature(mimetype: str, head: bytes, encoding: Encoding | None = None) -> None:
    """Raises `UnsupportedMediaType` when the first bytes of a file can't be of its media type.

    Of an encoded one they are compared with the encoding alone: what is inside is decoded by a run's own process, and
    nowhere else.
    """
    if encoding is not None:
        if not _ENCODING_SIGNATURES[encoding].match(head):
            raise UnsupportedMediaType(f"The bytes aren't {encoding}.")
        return
    signature = _SIGNATURES.get(mimetype)
    if signature is not None and not signature.match(head):
        raise UnsupportedMediaType(f"The bytes aren't {mimetype}.")
