"""Header fields that front reads and writes itself."""

import base64
import binascii
import re
from urllib.parse import quote

from common.errors import Malformed

MAX_WAIT_SECONDS = 60
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,19})"?\s*(?:$|[,;])', re.IGNORECASE)
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?:$|,)", re.IGNORECASE)


def wait_seconds(prefer: str | None) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most 60; 0 when there is none."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


def sha256_digest(field: str | None) -> str | None:
    """The SHA-256, in hex, of a `Content-Digest` (RFC 9530); None when it has none. Raises `Malformed`."""
    if not field:
        return None
    match = _DIGEST.search(field)
    if match is None:
        if "sha-256" in field.lower():
            raise Malformed("Content-Digest should look like `sha-256=:<base64>:`.")
        return None
    try:
        return base64.b64decode(match[1], validate=True).hex()
    except binascii.Error:
        raise Malformed("Content-Digest should look like `sha-256=:<base64>:`.") from None


def attachment(name: str) -> str:
    """A `Content-Disposition` that saves under a name (RFC 6266), whatever characters it has."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    extended = quote(name, safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}"
