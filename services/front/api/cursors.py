"""Cursors: where the next page of a list begins, signed for one owner and one list (HMAC-SHA-256, RFC 2104).

The key is derived (HKDF, RFC 5869) from front's own private key, which all replicas of front share: a cursor of one is
good at any other, and none of them keeps it.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.errors import Malformed
from services.front.domain.job import Owner
from services.front.domain.listing import Position

MAX_CHARACTERS = 256
_MAC_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Cursors:
    """Makes and reads cursors. `of` names the list: its address, and what was asked for."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> "Cursors":
        """With a key that comes of the Ed25519 private key in this PEM file."""
        private = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError(f"{path} doesn't hold an Ed25519 private key.")
        derivation = HKDF(SHA256(), length=32, salt=None, info=b"gristmill front cursors")
        return cls(derivation.derive(private.private_bytes_raw()))

    def seal(self, owner: Owner, of: Mapping[str, object], position: Position) -> str:
        milliseconds = (position.created_at - _EPOCH) // _MILLISECOND
        text = f"{milliseconds}.{position.job_id}".encode()
        return urlsafe_b64encode(self._mac(owner, of, text) + text).decode().rstrip("=")

    def read(self, owner: Owner, of: Mapping[str, object], cursor: str) -> Position | None:
        """Where the page begins; None without a cursor. Raises `Malformed` for any that wasn't made for just this."""
        if not cursor:
            return None
        try:
            sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError:
            raise Malformed("This isn't a cursor.") from None
        mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        altered = urlsafe_b64encode(sealed).decode().rstrip("=") != cursor
        if altered or not hmac.compare_digest(mac, self._mac(owner, of, text)):
            raise Malformed("This isn't a cursor of this list.")
        milliseconds, _, job_id = text.decode().partition(".")
        return Position(_EPOCH + int(milliseconds) * _MILLISECOND, job_id)

    def _mac(self, owner: Owner, of: Mapping[str, object], text: bytes) -> bytes:
        signed = json.dumps([owner.tenant, owner.subject, of], sort_keys=True).encode() + b"\0" + text
        return hmac.digest(self._key, signed, "sha256")[:_MAC_BYTES]
