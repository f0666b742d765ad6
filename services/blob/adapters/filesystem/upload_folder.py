"""The blocking half of the filesystem's uploads: `uploads/`, as `uploads.py` describes it."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cryptography.exceptions import InvalidTag
from pydantic import ValidationError

from common.contracts.upload import UploadFacts, UploadStatus
from common.errors import AlreadyExists, Conflict, NotFound, Unavailable
from common.logging import get_logger
from services.blob.adapters.filesystem.folder import Folder
from services.blob.adapters.filesystem.locks import lock
from services.blob.adapters.filesystem.master_keys import name_of
from services.blob.adapters.filesystem.part_file import PartFile, is_arrived, read_prefix, record_name
from services.blob.adapters.filesystem.pieces import KEY_BYTES, PIECE_BYTES, Encryption, Read, reading, stored_size
from services.blob.adapters.footer import Footer
from services.blob.domain.uploads import is_single, part, part_count, part_size
from services.blob.ports import CorruptBlob

READ_BYTES = 1024 * 1024
# No opening and no removing takes so long, so what is older was left by a process that died.
LEFT_SECONDS = 3600

log = get_logger()


@dataclass(frozen=True, slots=True)
class Look:
    """What was found: where the upload is, and which of its parts have arrived."""

    status: UploadStatus
    received: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Kept:
    """What an upload's folder says that it is, and the key that its parts are encrypted with, if they are."""

    facts: UploadFacts
    key: bytes | None


class UploadFolder:
    """The folders of all uploads, beside the blobs that they become."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._uploads = folder.root / "uploads"

    def prepare(self) -> None:
        self._uploads.mkdir(mode=0o700, exist_ok=True)
        self._folder.sync(self._folder.root)

    def look(self, facts: UploadFacts) -> Look:
        """Where the upload is; one whose blob is there loses its folder. Raises `Conflict` for other facts."""
        kept = self._kept(facts.id)
        if kept is not None and (kept.facts.size, kept.facts.sha256) != (facts.size, facts.sha256):
            raise Conflict("The upload was opened with another size or digest.")
        with contextlib.suppress(NotFound):
            return Look(self._finished(facts))
        if kept is None:
            return Look(UploadStatus(id=facts.id, state="OPEN"))
        path = self._path(facts.id)
        received = frozenset() if is_single(facts.size) else _received(path)
        # Only now: records are removed after a mismatch was noted, and after the folder has lost its name.
        if (path / "mismatch").exists():
            return Look(UploadStatus(id=facts.id, state="MISMATCH"))
        if not path.exists():
            return self.look(facts)
        whole = not is_single(facts.size) and len(received) == part_count(facts.size)
        return Look(UploadStatus(id=facts.id, state="VERIFYING" if whole else "OPEN"), received)

    def is_open(self, upload_id: str) -> bool:
        """Whether the upload has a folder that can be used."""
        return self._kept(upload_id) is not None

    def open(self, facts: UploadFacts) -> None:
        """Make the upload's folder if it isn't there; else it counts as used now, for the sweep."""
        path = self._path(facts.id)
        if self.is_open(facts.id):
            with contextlib.suppress(FileNotFoundError):  # ended since
                os.utime(path / "facts.json")
            return
        self.remove(facts.id)  # a folder without facts, from a machine that went down
        new = self._uploads / f"~{uuid4()}"
        new.mkdir(mode=0o700)
        _create(new / "facts.json", self._packed(Kept(facts, self._folder.new_key())))
        if not is_single(facts.size):
            _create(new / "data", b"")
            for name in ("facts.json", "data"):
                self._sync_file(new / name)
            self._folder.sync(new)
        try:
            new.rename(path)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # these say that another has opened it since
                raise
        if not is_single(facts.size):
            self._folder.sync(self._uploads)

    def taking(self, upload_id: str) -> Kept:
        """An upload that may take bytes. Raises `NotFound`, `AlreadyExists`, `Conflict`."""
        kept = self._kept(upload_id)
        if kept is None:
            with contextlib.suppress(NotFound):
                self._folder.stat(upload_id)
                raise AlreadyExists("The upload is complete.")
            raise NotFound("There is no such upload, or it was given up.")
        if (self._path(upload_id) / "mismatch").exists():
            raise Conflict("What was sent isn't what was announced, and was deleted. Begin again.")
        return kept

    def begin_part(self, upload_id: str, number: int, size: int) -> PartFile:
        """Raises `NotFound`, `AlreadyExists`, `Conflict`."""
        kept = self.taking(upload_id)
        whole = kept.facts.size
        place = part(whole, number)
        if is_single(whole) or number > part_count(whole) or place.size != size:
            raise Conflict("The upload isn't cut like that any more. Ask for fresh URLs.")
        try:
            return PartFile(self._folder, self._path(upload_id), place, kept.key, last=number == part_count(whole))
        except FileNotFoundError:  # it ended since
            self.taking(upload_id)
            raise NotFound from None

    def is_whole(self, upload_id: str) -> bool:
        """Whether all parts of a multipart have arrived."""
        kept = self._kept(upload_id)
        if kept is None or is_single(kept.facts.size):
            return False
        return len(_received(self._path(upload_id))) == part_count(kept.facts.size)

    def verify(self, upload_id: str, stopping: Callable[[], bool]) -> None:
        """Make the blob of a multipart that is all there, or record the mismatch. Returns without having done
        either when another does it, a part is being sent again, or `stopping` says so.
        """
        path = self._path(upload_id)
        with contextlib.suppress(FileNotFoundError), lock(path / "data", fcntl.LOCK_EX) as fd:
            kept = self._kept(upload_id)
            if fd is None or kept is None or len(_received(path)) < part_count(kept.facts.size):
                return
            facts = kept.facts
            if os.fstat(fd).st_nlink != 1:  # it is the blob already, and must not be touched
                self._finished(facts)
                return
            encryption = _encryption(path, facts, kept.key) if kept.key else None
            if kept.key and encryption is None:
                return
            try:
                sha256 = _digest(reading(fd, facts.size, encryption), facts.size, stopping)
            except CorruptBlob:
                self.mismatch(upload_id)
                return
            if sha256 is None:
                return
            if facts.sha256 not in (None, sha256.hex()):
                self.mismatch(upload_id)
                return
            os.lseek(fd, stored_size(facts.size) if encryption else facts.size, os.SEEK_SET)
            try:
                self._folder.seal(upload_id, path / "data", fd, Footer(facts.size, sha256), encryption)
            except AlreadyExists:
                self.mismatch(upload_id)
            else:
                self.remove(upload_id)

    def mismatch(self, upload_id: str) -> None:
        """Remember that what came was something else, and delete it."""
        path = self._path(upload_id)
        log.warning("upload.mismatch", upload=upload_id)
        with contextlib.suppress(FileNotFoundError):  # aborted since
            (path / "mismatch").touch(mode=0o600)
            self._folder.sync(path)
            for entry in path.iterdir():
                if entry.name not in ("facts.json", "mismatch"):
                    entry.unlink()

    def remove(self, upload_id: str) -> bool:
        """Forget an upload, in one step; False when it wasn't there. A URL that was given leads nowhere then."""
        removed = self._uploads / f"~{uuid4()}"
        try:
            self._path(upload_id).rename(removed)
        except FileNotFoundError:
            return False
        self._folder.sync(self._uploads)
        shutil.rmtree(removed, ignore_errors=True)  # what stays is swept
        return True

    def names(self) -> list[str]:
        """The ids of all uploads."""
        return [entry.name for entry in self._entries()]

    def unfinished(self) -> list[str]:
        """The multiparts that are all there, which a process that died may have left."""
        found = []
        for entry in self._entries():
            try:
                if self.is_whole(entry.name):
                    found.append(entry.name)
            except Unavailable as error:
                log.error("upload.key_missing", upload=entry.name, reason=str(error))
        return found

    def wrap_anew(self, upload_id: str) -> bool:
        """Wrap the key of an upload under the newest one; False when it is so, or the upload isn't encrypted or over.

        Raises `Unavailable` when its key isn't here.
        """
        with contextlib.suppress(FileNotFoundError):
            # By its descriptor: another upload may get the name.
            folder = os.open(self._path(upload_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return self._wrap_anew(upload_id, folder)
            finally:
                os.close(folder)
        return False

    def sweep(self, before: float) -> int:
        """Remove the uploads to which nothing was done since that moment (seconds since the epoch)."""
        swept = 0
        for entry in self._entries():
            if _last_used(entry) < before:
                swept += self.remove(entry.name)
        for leftover in self._uploads.glob("~*"):
            if _last_used(leftover) < time.time() - LEFT_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        return swept

    def _finished(self, facts: UploadFacts) -> UploadStatus:
        blob = self._folder.stat(facts.id)
        if blob.size != facts.size or facts.sha256 not in (None, blob.sha256):
            return UploadStatus(id=facts.id, state="MISMATCH")
        if self._path(facts.id).exists():
            self._folder.sync_name(facts.id)  # who made the blob may not have come as far as this
            self.remove(facts.id)
        return UploadStatus(id=facts.id, state="COMPLETE", size=blob.size, sha256=blob.sha256)

    def _kept(self, upload_id: str) -> Kept | None:
        """Raises `Unavailable` when the upload's key isn't here."""
        try:
            return self._unpacked(upload_id, (self._path(upload_id) / "facts.json").read_bytes())
        except FileNotFoundError:
            return None

    def _packed(self, kept: Kept) -> bytes:
        facts = kept.facts.to_wire()
        return facts if kept.key is None else self._folder.keys.wrap(kept.key + facts, _about(kept.facts.id))

    def _unpacked(self, upload_id: str, packed: bytes) -> Kept | None:
        try:
            if name_of(packed) is None:
                return Kept(UploadFacts.model_validate_json(packed), None)
            secret = self._folder.keys.unwrap(packed, _about(upload_id))
            return Kept(UploadFacts.model_validate_json(secret[KEY_BYTES:]), secret[:KEY_BYTES])
        except (ValidationError, InvalidTag):  # a power failure has cut it short
            return None

    def _wrap_anew(self, upload_id: str, folder: int) -> bool:
        with os.fdopen(os.open("facts.json", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
            packed, status = file.read(), os.fstat(file.fileno())
        kept = self._unpacked(upload_id, packed)
        if kept is None or kept.key is None or name_of(packed) == self._folder.keys.newest:
            return False
        name = f"facts.{uuid4()}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            self._folder.write(fd, self._packed(kept))
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))  # when the upload was used
            self._folder.disk.fsync(fd)
            os.rename(name, "facts.json", src_dir_fd=folder, dst_dir_fd=folder)
            self._folder.disk.fsync(folder)
        finally:
            os.close(fd)
        return True

    def _entries(self) -> list[Path]:
        return [entry for entry in self._uploads.iterdir() if not entry.name.startswith("~")]

    def _path(self, upload_id: str) -> Path:
        return self._uploads / upload_id

    def _sync_file(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._folder.disk.fsync(fd)
        finally:
            os.close(fd)


def _about(upload_id: str) -> bytes:
    return b"upload\n" + upload_id.encode()


def _encryption(path: Path, facts: UploadFacts, key: bytes) -> Encryption | None:
    """What the parts are encrypted with. None when a record has been spoilt, which doesn't count any more then."""
    prefixes = b""
    for number in range(1, part_count(facts.size) + 1):
        prefix = read_prefix(path, number)
        if prefix is None:
            os.truncate(path / record_name(number), 0)
            return None
        prefixes += prefix
    return Encryption(key, part_size(facts.size) // PIECE_BYTES, prefixes)


def _received(path: Path) -> frozenset[int]:
    """The numbers of the parts whose records are whole."""
    try:
        with os.scandir(path) as entries:
            return frozenset(int(entry.name) for entry in entries if entry.name.isdigit() and is_arrived(entry))
    except FileNotFoundError:
        return frozenset()


def _digest(read: Read, size: int, stopping: Callable[[], bool]) -> bytes | None:
    sha256 = hashlib.sha256()
    position = 0
    while position < size:
        if stopping():
            return None
        chunk = read(position, min(position + READ_BYTES, size))
        if not chunk:
            raise OSError("the file is shorter than its parts")
        sha256.update(chunk)
        position += len(chunk)
    return sha256.digest()


def _create(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)


def _last_used(path: Path) -> float:
    used = 0.0
    for each in (path, path / "facts.json", path / "data"):
        with contextlib.suppress(FileNotFoundError):
            used = max(used, each.stat().st_mtime)
    return used
