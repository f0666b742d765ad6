"""One part on its way into its place in an upload's file, and the record that it has arrived. Raises `OSError`."""

import contextlib
import fcntl
import os
from pathlib import Path

from common.errors import Conflict, NotFound
from services.blob.adapters.filesystem.folder import Folder
from services.blob.adapters.filesystem.locks import lock
from services.blob.adapters.filesystem.pieces import PIECE_BYTES, PREFIX_BYTES, stored_offset
from services.blob.domain.uploads import Part

# A record is 64 hex digits and a line end; one that a crash cut short isn't as long. They are the part's SHA-256, or
# the prefix that its pieces are encrypted with.
RECORD_BYTES = 65


class PartFile:
    """Nobody else writes this part, and nobody verifies the file, until `finish` or `close`."""

    def __init__(self, folder: Folder, upload: Path, place: Part, key: bytes | None, *, last: bool) -> None:
        """With a `key` the part is encrypted; `last` says that nothing comes after it.

        Raises `Conflict` when the upload is being verified or has been, or the part is being sent already.
        """
        self._folder = folder
        self._upload = upload
        self._path = upload / record_name(place.number)
        with contextlib.ExitStack() as stack:
            data = stack.enter_context(lock(upload / "data", fcntl.LOCK_SH))
            if data is None or os.fstat(data).st_nlink != 1:
                raise Conflict("Everything has arrived, and is being checked.", headers={"Retry-After": "1"})
            record = stack.enter_context(lock(self._path, fcntl.LOCK_EX, os.O_CREAT))
            if record is None:
                raise Conflict("This part is being sent already.", headers={"Retry-After": "1"})
            if os.fstat(record).st_size:
                # Its bytes are about to change, so it must not count before they have changed to the end.
                os.ftruncate(record, 0)
                folder.disk.fsync(record)
            os.lseek(data, place.offset if key is None else stored_offset(place.offset), os.SEEK_SET)
            self.writer = folder.writer(data, key, first=place.offset // PIECE_BYTES, last=last)
            self._data, self._record = data, record
            self._locks = stack.pop_all()

    def finish(self, sha256: str) -> None:
        """Let the part count, once its bytes are on disk. Closes it, whatever happens.

        Raises `NotFound` when the upload was aborted meanwhile.
        """
        with self._locks:
            encryption = self.writer.finish()
            self._folder.disk.fsync(self._data)
            record = encryption.prefixes.hex().zfill(64) if encryption else sha256
            self._folder.write(self._record, f"{record}\n".encode())
            self._folder.disk.fsync(self._record)
            try:
                self._folder.sync(self._upload)
                there = os.path.samestat(os.fstat(self._record), self._path.stat())
            except FileNotFoundError:
                there = False
            if not there:
                raise NotFound("The upload was given up.")

    def close(self) -> None:
        self._locks.close()


def is_arrived(record: os.DirEntry[str]) -> bool:
    try:
        return record.stat(follow_symlinks=False).st_size == RECORD_BYTES
    except FileNotFoundError:
        return False


def read_prefix(upload: Path, number: int) -> bytes | None:
    """The prefix of an encrypted part that has arrived; None for a record that power loss has spoilt."""
    try:
        return bytes.fromhex((upload / record_name(number)).read_text("ascii"))[-PREFIX_BYTES:]
    except ValueError:
        return None


def record_name(number: int) -> str:
    return f"{number:05}"
