"""Digest headers (RFC 9530) and entity tags, for the one algorithm that blob keeps: SHA-256."""

import base64
import binascii
import re

from common.errors import Malformed

_MEMBER = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):[ \t]*")


def parse_content_digest(header: str | None) -> str | None:
    """The SHA-256, in hex, that a `Content-Digest` declares; None when it declares none.

    Other algorithms are passed over, as the RFC allows. Raises `Malformed`.
    """
    if header is None:
        return None
    sha256 = None
    for member in header.split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise Malformed("Content-Digest can't be read; it looks like `sha-256=:<base64>:`.")
        if match[1] == "sha-256":
            sha256 = _hex(match[2])
    return sha256


def _hex(encoded: str) -> str:
    try:
        digest = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise Malformed("Content-Digest: a sha-256 is 32 bytes in base64.")
    return digest.hex()


def repr_digest(sha256: str) -> str:
    """The value of `Repr-Digest` for a SHA-256 in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def entity_tag(sha256: str) -> str:
    """A strong entity tag: blobs with the same bytes have the same one."""
    return f'"{sha256}"'
