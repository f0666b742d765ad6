"""The bytes of a file as pieces, each encrypted by itself, so that a range can be read without the rest.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015) over AES-256-GCM, as age and Tink have it too: piece `n` of 512 KiB has the nonce
`prefix ‖ n ‖ 1 if it is the last, else 0`, of 7, 4 and 1 bytes, and is followed by its tag of 16. So a piece is good at
its own place of its own file alone, and what was cut short has no last piece.

Each file has a key of its own. A file that comes in parts has a new random prefix for each try at a part: what is sent
again may be other bytes, and a nonce must never be used twice.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.blob.ports import CorruptBlob

PIECE_BYTES = 512 * 1024
TAG_BYTES = 16
PREFIX_BYTES = 7
KEY_BYTES = 32
# All that a nonce can number.
MAX_PIECES = 2**32 - 1
_STORED_BYTES = PIECE_BYTES + TAG_BYTES

Put = Callable[[bytes | memoryview], None]
Read = Callable[[int, int], bytes | memoryview]
"""Reads a file's own bytes from a position to before another; none when the file has become shorter."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """What a file's pieces are encrypted with: its key, and a prefix for each part of `part_pieces` pieces."""

    key: bytes
    part_pieces: int
    prefixes: bytes


class Writer(Protocol):
    """Puts a file's own bytes on disk. `computes` says that it takes a thread's time."""

    computes: bool

    def write(self, chunk: bytes) -> None: ...

    def finish(self) -> Encryption | None:
        """Put the rest there. Returns what the bytes are encrypted with, if they are."""


class PlainWriter:
    """A `Writer` of bytes as they are."""

    computes = False

    def __init__(self, put: Put) -> None:
        self._put = put

    def write(self, chunk: bytes) -> None:
        self._put(chunk)

    def finish(self) -> None:
        return None


class PieceWriter:
    """A `Writer` of encrypted pieces, which are the file's from number `first` on, and to its end if `last`."""

    computes = True

    def __init__(self, put: Put, key: bytes, *, first: int, last: bool) -> None:
        self._put = put
        self._key = key
        self._cipher = AESGCM(key)
        self._prefix = os.urandom(PREFIX_BYTES)
        self._next = first
        self._last = last
        # As long as the first piece, and used again for each: new memory for each costs more than a copy.
        self._plain, self._stored = bytearray(), bytearray()
        self._held = 0

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            if self._held == PIECE_BYTES:  # and something comes after it
                self._put_piece(last=False)
            count = min(len(rest), PIECE_BYTES - self._held)
            if self._held == len(self._plain):
                self._plain += rest[:count]
            else:
                memoryview(self._plain)[self._held : self._held + count] = rest[:count]
            self._held += count
            rest = rest[count:]

    def finish(self) -> Encryption:
        self._put_piece(last=self._last)
        return Encryption(self._key, MAX_PIECES, self._prefix)

    def _put_piece(self, *, last: bool) -> None:
        if not self._stored:
            self._stored = bytearray(self._held + TAG_BYTES)
        plain, stored = memoryview(self._plain)[: self._held], memoryview(self._stored)[: self._held + TAG_BYTES]
        self._cipher.encrypt_into(_nonce(self._prefix, self._next, last=last), plain, None, stored)
        self._put(stored)
        self._next += 1
        self._held = 0


def piece_count(size: int) -> int:
    """How many pieces a file of `size` bytes has; an empty one has an empty piece."""
    return max(1, -(-size // PIECE_BYTES))


def stored_offset(position: int) -> int:
    """Where the piece lies that begins at that position of the file's own bytes."""
    return position // PIECE_BYTES * _STORED_BYTES


def stored_size(size: int) -> int:
    """How long the pieces of a file of `size` bytes are."""
    return size + piece_count(size) * TAG_BYTES


def reading(fd: int, size: int, encryption: Encryption | None) -> Read:
    """How the `size` bytes of a file are read; `CorruptBlob` is raised in place of pieces that aren't as written."""
    if encryption is None:
        return lambda position, end: os.pread(fd, end - position, position)
    cipher = AESGCM(encryption.key)
    last = piece_count(size) - 1

    def read(position: int, end: int) -> memoryview:
        first, beyond = position // PIECE_BYTES, -(-end // PIECE_BYTES)
        length = min(beyond * PIECE_BYTES, size) - first * PIECE_BYTES
        stored = memoryview(os.pread(fd, length + (beyond - first) * TAG_BYTES, first * _STORED_BYTES))
        plain = memoryview(bytearray(length))
        for number in range(first, beyond):
            part = number // encryption.part_pieces
            prefix = encryption.prefixes[part * PREFIX_BYTES : (part + 1) * PREFIX_BYTES]
            at = number - first
            try:
                cipher.decrypt_into(
                    _nonce(prefix, number, last=number == last),
                    stored[at * _STORED_BYTES : (at + 1) * _STORED_BYTES],
                    None,
                    plain[at * PIECE_BYTES : (at + 1) * PIECE_BYTES],
                )
            except (InvalidTag, ValueError):  # the latter for one that was cut short
                raise CorruptBlob(f"Piece {number} isn't as it was written.") from None
        return plain[position - first * PIECE_BYTES : end - first * PIECE_BYTES]

    return read


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4) + last.to_bytes()
