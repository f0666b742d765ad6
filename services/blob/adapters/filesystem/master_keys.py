"""The operator's keys. Under each of them the keys of many files are encrypted ("wrapped"), so that it can be changed
without touching their bytes.

A key is a file in a folder: 32 random bytes in base64, as `openssl rand -base64 32` makes them. Its name is the key's.
The newest key is the one whose name sorts last: it wraps, and the others only unwrap.
"""

import binascii
import os
import re
import struct
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import Unavailable
from services.blob.adapters.filesystem.pieces import KEY_BYTES, TAG_BYTES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
# The key's name and the nonce.
_HEADER = struct.Struct(">32s12s")
# How much longer than a secret it is when it is wrapped.
WRAPPING_BYTES = _HEADER.size + TAG_BYTES


class MasterKeys:
    """Keys by name. Without any (`newest` is None) nothing is encrypted, and what is can't be read."""

    def __init__(self, keys: Mapping[str, bytes] | None = None) -> None:
        self._keys = {name: AESGCM(key) for name, key in (keys or {}).items()}
        self.newest = max(self._keys, default=None)

    @classmethod
    def read(cls, folder: Path | None) -> "MasterKeys":
        """The keys in a folder. Raises `ValueError` with a sentence, which has nothing of a key."""
        if folder is None:
            return cls()
        try:
            # Kubernetes keeps what it mounts in hidden folders, and links to it.
            keys = {path.name: _read(path) for path in folder.iterdir() if not path.name.startswith(".")}
        except OSError as error:
            raise ValueError(f"It should be a folder of keys that can be read ({error.strerror})") from None
        if not keys:
            raise ValueError("It should be a folder with a key in it, which `openssl rand -base64 32` makes")
        return cls(keys)

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def wrap(self, secret: bytes, about: bytes) -> bytes:
        """The secret under the newest key, for who says the same `about` when it is unwrapped.

        AES-256-GCM with a random nonce, so a key is good for 2³² secrets (NIST SP 800-38D, section 8.3).
        """
        if self.newest is None:
            raise ValueError("there is no key to wrap it under")
        nonce = os.urandom(12)
        return _HEADER.pack(self.newest.encode(), nonce) + self._keys[self.newest].encrypt(nonce, secret, about)

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        """The secret. Raises `InvalidTag` for what isn't as it was wrapped, and `Unavailable`, with its name, when its
        key isn't here.
        """
        name = name_of(wrapped)
        if name is None:
            raise InvalidTag
        if name not in self._keys:
            raise Unavailable(f"The bytes are encrypted under the key {name}, which isn't in BLOB_KEYS.")
        _, nonce = _HEADER.unpack_from(wrapped)
        return self._keys[name].decrypt(nonce, wrapped[_HEADER.size :], about)


def name_of(wrapped: bytes) -> str | None:
    """The name of the key that something was wrapped under; None for what can't have been wrapped."""
    if len(wrapped) < WRAPPING_BYTES:
        return None
    name = _HEADER.unpack_from(wrapped)[0].rstrip(b"\0").decode("ascii", "replace")
    return name if _NAME.fullmatch(name) else None


def _read(path: Path) -> bytes:
    if not _NAME.fullmatch(path.name):
        raise ValueError(f"A key's name has 1 to 32 of A-Z, a-z, 0-9, '.', '_' and '-', and {path.name!r} isn't one")
    try:
        key = b64decode(path.read_bytes().strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path.name} should hold {KEY_BYTES} bytes in base64, which `openssl rand -base64 32` makes")
    return key
