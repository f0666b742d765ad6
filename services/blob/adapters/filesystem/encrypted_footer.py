"""The last bytes of an encrypted blob's file: what its pieces are encrypted with, and what `footer.py` says of others.

They are the prefixes of the parts; a header with magic, version, size of the blob and pieces in a part; and a secret,
wrapped (`master_keys.py`) for this id, header and prefixes. The secret is the key of the pieces, and the SHA-256 of the
blob: in the clear it would tell who has the disk whether a file that they know is on it.

The wrapped secret is there twice. Wrapped anew it is written over one, and when that is on disk over the other: so one
is whole at every moment. As SQLite does, we rely on a write to change no byte beside those written.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from common.errors import Unavailable
from services.blob.adapters.filesystem.master_keys import WRAPPING_BYTES, MasterKeys, name_of
from services.blob.adapters.filesystem.pieces import KEY_BYTES, PREFIX_BYTES, Encryption, piece_count, stored_size
from services.blob.adapters.footer import Footer
from services.blob.ports import CorruptBlob

_HEADER = struct.Struct(">8sIQI")
_MAGIC = b"gristml\n"
_VERSION = 2
_WRAPPED_BYTES = WRAPPING_BYTES + KEY_BYTES + 32
_LAST_BYTES = _HEADER.size + 2 * _WRAPPED_BYTES


@dataclass(frozen=True, slots=True)
class EncryptedFooter:
    """A footer as it lies in its file; `offset` is where the two `copies` of the wrapped secret begin."""

    size: int
    part_pieces: int
    prefixes: bytes
    about: bytes
    offset: int
    copies: list[bytes]

    def unwrap(self, keys: MasterKeys) -> tuple[Footer, Encryption]:
        """Raises `CorruptBlob` when it isn't as it was written, and `Unavailable` when its key isn't here."""
        secret = next(filter(None, self._secrets(keys)))
        footer = Footer(self.size, secret[KEY_BYTES:])
        return footer, Encryption(secret[:KEY_BYTES], self.part_pieces, self.prefixes)

    def wrapped_anew(self, keys: MasterKeys) -> Iterator[tuple[int, bytes]]:
        """What is to be written, and where, for the secret to be wrapped under the newest key: none if it is. The first
        has to be on disk before the second is written. Raises `CorruptBlob`, `Unavailable`.
        """
        secrets = self._secrets(keys)
        if all(secrets) and all(name_of(copy) == keys.newest for copy in self.copies):
            return
        anew = keys.wrap(next(filter(None, secrets)), self.about)
        # A copy that is of no use comes first, for then the other is all there is.
        for number in sorted((0, 1), key=lambda number: secrets[number] is not None):
            yield self.offset + number * _WRAPPED_BYTES, anew

    def _secrets(self, keys: MasterKeys) -> list[bytes | None]:
        """The secret, as far as its copies can be unwrapped, of which there is one."""
        secrets: list[bytes | None] = []
        missing = None
        for copy in self.copies:
            try:
                secrets.append(keys.unwrap(copy, self.about))
            except InvalidTag:
                secrets.append(None)
            except Unavailable as error:
                secrets.append(None)
                missing = error
        if not any(secrets):
            raise missing or CorruptBlob("The footer isn't as it was written.")
        return secrets


def pack_encrypted(footer: Footer, encryption: Encryption, blob_id: str, keys: MasterKeys) -> bytes:
    """The footer of a new blob, wrapped under the newest key."""
    header = _HEADER.pack(_MAGIC, _VERSION, footer.size, encryption.part_pieces)
    wrapped = keys.wrap(encryption.key + footer.sha256, _about(blob_id, header, encryption.prefixes))
    return encryption.prefixes + header + 2 * wrapped


def find_encrypted(fd: int, file_size: int, blob_id: str) -> EncryptedFooter | None:
    """The footer of an open file; None when there is none that fits the file's size."""
    if file_size < _LAST_BYTES:
        return None
    header_offset = file_size - _LAST_BYTES
    packed = os.pread(fd, _LAST_BYTES, header_offset)
    header, copies = packed[: _HEADER.size], packed[_HEADER.size :]
    magic, version, size, part_pieces = _HEADER.unpack(header)
    if (magic, version) != (_MAGIC, _VERSION) or part_pieces == 0:
        return None
    prefixes_offset = stored_size(size)
    prefixes_bytes = -(-piece_count(size) // part_pieces) * PREFIX_BYTES
    if prefixes_offset + prefixes_bytes != header_offset:
        return None
    prefixes = os.pread(fd, prefixes_bytes, prefixes_offset)
    return EncryptedFooter(
        size,
        part_pieces,
        prefixes,
        _about(blob_id, header, prefixes),
        header_offset + _HEADER.size,
        [copies[:_WRAPPED_BYTES], copies[_WRAPPED_BYTES:]],
    )


def _about(blob_id: str, header: bytes, prefixes: bytes) -> bytes:
    return b"blob\n" + blob_id.encode() + b"\n" + header + prefixes
