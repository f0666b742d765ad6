"""The blocking half of the filesystem's uploads: `uploads/`, as `filesystem_uploads.py` describes it."""

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

from pydantic import ValidationError

from common.contracts.upload import UploadFacts, UploadStatus
from common.errors import AlreadyExists, Conflict, NotFound
from common.logging import get_logger
from services.blob.adapters.filesystem.folder import Folder
from services.blob.adapters.filesystem.locks import lock
from services.blob.adapters.filesystem.part_file import PartFile, is_arrived
from services.blob.adapters.footer import Footer
from services.blob.domain.uploads import is_single, part, part_count

READ_BYTES = 1024 * 1024
# No opening and no removing takes so long, so what is older was left by a process that died.
LEFT_SECONDS = 3600

log = get_logger()


@dataclass(frozen=True, slots=True)
class Look:
    """What was found: where the upload is, and which of its parts have arrived."""

    status: UploadStatus
    received: frozenset[int] = frozenset()


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
        kept = self._facts(facts.id)
        if kept is not None and (kept.size, kept.sha256) != (facts.size, facts.sha256):
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
        return self._facts(upload_id) is not None

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
        _create(new / "facts.json", facts.to_wire())
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

    def taking(self, upload_id: str) -> UploadFacts:
        """The facts of an upload that may take bytes. Raises `NotFound`, `AlreadyExists`, `Conflict`."""
        facts = self._facts(upload_id)
        if facts is None:
            with contextlib.suppress(NotFound):
                self._folder.stat(upload_id)
                raise AlreadyExists("The upload is complete.")
            raise NotFound("There is no such upload, or it was given up.")
        if (self._path(upload_id) / "mismatch").exists():
            raise Conflict("What was sent isn't what was announced, and was deleted. Begin again.")
        return facts

    def begin_part(self, upload_id: str, number: int, size: int) -> PartFile:
        """Raises `NotFound`, `AlreadyExists`, `Conflict`."""
        facts = self.taking(upload_id)
        place = part(facts.size, number)
        if is_single(facts.size) or number > part_count(facts.size) or place.size != size:
            raise Conflict("The upload isn't cut like that any more. Ask for fresh URLs.")
        try:
            return PartFile(self._folder, self._path(upload_id), place)
        except FileNotFoundError:  # it ended since
            self.taking(upload_id)
            raise NotFound from None

    def is_whole(self, upload_id: str) -> bool:
        """Whether all parts of a multipart have arrived."""
        facts = self._facts(upload_id)
        if facts is None or is_single(facts.size):
            return False
        return len(_received(self._path(upload_id))) == part_count(facts.size)

    def verify(self, upload_id: str, stopping: Callable[[], bool]) -> None:
        """Make the blob of a multipart that is all there, or record the mismatch. Returns without having done
        either when another does it, a part is being sent again, or `stopping` says so.
        """
        path = self._path(upload_id)
        with contextlib.suppress(FileNotFoundError), lock(path / "data", fcntl.LOCK_EX) as fd:
            facts = self._facts(upload_id)
            if fd is None or facts is None or len(_received(path)) < part_count(facts.size):
                return
            if os.fstat(fd).st_nlink != 1:  # it is the blob already, and must not be touched
                self._finished(facts)
                return
            sha256 = _digest(fd, facts.size, stopping)
            if sha256 is None:
                return
            if facts.sha256 not in (None, sha256.hex()):
                self.mismatch(upload_id)
                return
            os.lseek(fd, facts.size, os.SEEK_SET)
            try:
                self._folder.seal(upload_id, path / "data", fd, Footer(facts.size, sha256))
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

    def unfinished(self) -> list[str]:
        """The multiparts that are all there, which a process that died may have left."""
        return [entry.name for entry in self._entries() if self.is_whole(entry.name)]

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

    def _facts(self, upload_id: str) -> UploadFacts | None:
        try:
            return UploadFacts.model_validate_json((self._path(upload_id) / "facts.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

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


def _received(path: Path) -> frozenset[int]:
    """The numbers of the parts whose records are whole."""
    try:
        with os.scandir(path) as entries:
            return frozenset(int(entry.name) for entry in entries if entry.name.isdigit() and is_arrived(entry))
    except FileNotFoundError:
        return frozenset()


def _digest(fd: int, size: int, stopping: Callable[[], bool]) -> bytes | None:
    sha256 = hashlib.sha256()
    position = 0
    while position < size:
        if stopping():
            return None
        chunk = os.pread(fd, min(READ_BYTES, size - position), position)
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
