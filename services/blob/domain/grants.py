"""Signed, expiring, single-purpose tokens for blob's own data plane: the last part of an upload's URL.

A token is the grant and its HMAC-SHA256, both in base64url. It lets its holder do one thing once it is there, and
nothing else: send exactly `size` bytes as one part of one upload, by one method, before a moment.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import astuple, dataclass

MIN_KEY_BYTES = 32
PSEUDONYM_BYTES = 9
_MAX_TOKEN_CHARS = 1024
# Says what this key signs, in case it should ever sign anything else too.
_PURPOSE = b"gristmill upload 1\n"


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be sent: `part` from 1, or None for the whole file of a single upload; `size` in bytes; `expires_at`
    in seconds since the epoch. `tenant` and `subject` are pseudonyms (`GrantSigner.pseudonym`) of whose file it is.
    """

    upload_id: str
    part: int | None
    size: int
    expires_at: int
    method: str = "PUT"
    tenant: str = ""
    subject: str = ""


class GrantSigner:
    """Makes tokens and reads them. `key` is random, and has at least `MIN_KEY_BYTES`."""

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a key for uploads has at least {MIN_KEY_BYTES} bytes")
        self._key = key

    def token(self, grant: Grant) -> str:
        payload = json.dumps(astuple(grant), separators=(",", ":")).encode()
        return f"{_encode(payload)}.{_encode(self._mac(payload))}"

    def read(self, token: str) -> Grant | None:
        """The grant, unless somebody else made the token or changed it. Whether it still holds is not looked at."""
        payload, separator, mac = token.partition(".")
        if not separator or len(token) > _MAX_TOKEN_CHARS:
            return None
        try:
            signed = _decode(payload)
            given = _decode(mac)
        except (binascii.Error, ValueError):
            return None
        if not hmac.compare_digest(given, self._mac(signed)):
            return None
        return Grant(*json.loads(signed))

    def pseudonym(self, name: str) -> str:
        """The same for the same name, and nothing that leads back to it: URLs get around."""
        return _encode(self._mac(b"name\n" + name.encode())[:PSEUDONYM_BYTES])

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, _PURPOSE + payload, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:  # several texts decode to the same bytes; only ours is ours
        raise ValueError
    return data
