"""The power goes at any moment of a blob's life: a blob is whole or absent, and one that was acknowledged is whole."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotFound
from services.blob.adapters.filesystem import folder as adapter
from services.blob.adapters.filesystem.folder import Disk, Folder
from services.blob.adapters.footer import Footer
from tests.contract.power_loss import Recorder, after_power_loss, applied, make, on_disk
from tests.fakes.keys import master_keys

BLOB_ID = "i-1"
CHUNKS = [b"the first half, ", b"and the second"]
WHOLE = b"".join(CHUNKS)


class Killed(BaseException):
    """The process ends here."""


def put(folder: Folder) -> bool:
    staging = folder.create()
    for chunk in CHUNKS:
        staging.writer.write(chunk)
    return folder.publish(BLOB_ID, staging, Footer(len(WHOLE), hashlib.sha256(WHOLE).digest()))


def written_twice_and_deleted(folder: Folder, recorder: Recorder) -> None:
    assert put(folder)
    recorder.promise(BLOB_ID, WHOLE)
    assert not put(folder)
    recorder.promise(BLOB_ID, ...)
    folder.delete(BLOB_ID)
    recorder.promise(BLOB_ID, None)


def written_after_a_writer_who_was_killed(folder: Folder, recorder: Recorder) -> None:
    def killed(_fd: int) -> None:
        if any(folder.root.glob(f"blobs/*/{BLOB_ID}")):
            raise Killed
        recorder.disk.fsync(_fd)

    dying = Folder(folder.root, Disk(write=recorder.disk.write, fsync=killed))
    with pytest.raises(Killed):
        put(dying)
    assert not put(folder)
    recorder.promise(BLOB_ID, WHOLE)


def wrapped_anew_twice(folder: Folder, recorder: Recorder) -> None:
    assert put(folder)
    recorder.promise(BLOB_ID, WHOLE)
    for names in (("2026", "2027"), ("2027", "2028")):
        assert Folder(folder.root, recorder.disk, master_keys(*names)).wrap_anew(BLOB_ID)


def content(root: Path) -> bytes | None:
    """The blob's bytes as the adapter finds them; None for no blob."""
    folder = Folder(root, Disk(fsync=lambda _fd: None), master_keys("2026", "2027", "2028"))
    folder.prepare()
    try:
        opened = folder.open(BLOB_ID)
    except NotFound:
        return None
    try:
        return bytes(opened.read(0, opened.blob.size))
    finally:
        os.close(opened.fd)


@pytest.mark.parametrize(
    ("life", "keys"),
    [
        (written_twice_and_deleted, ()),
        (written_after_a_writer_who_was_killed, ()),
        (written_twice_and_deleted, ("2026",)),
        (wrapped_anew_twice, ("2026",)),
    ],
)
def test_after_power_loss_a_blob_is_whole_or_absent_and_one_acknowledged_is_whole(
    tmp_path: Path, life: Callable[[Folder, Recorder], None], keys: tuple[str, ...]
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        # The other 255 would only multiply the states: nothing of the blob is in them.
        monkeypatch.setattr(adapter, "_SHARDS", [hashlib.sha256(BLOB_ID.encode()).hexdigest()[:2]])
        with pytest.MonkeyPatch.context() as recording:
            recorder = Recorder(real, recording)
            folder = Folder(real / "volume" / "data", recorder.disk, master_keys(*keys))
            folder.prepare()
            life(folder, recorder)
        assert applied(recorder.steps) == on_disk(real)  # so nothing was done that wasn't written down
        found: set[Any] = set()
        for number, (state, promises) in enumerate(after_power_loss(recorder.steps)):
            below = tmp_path / str(number)
            below.mkdir()
            make(below, state)
            kept = content(below / "volume" / "data")
            found.add(kept)
            promised = promises.get(BLOB_ID, ...)
            assert kept in ((None, WHOLE) if promised is ... else (promised,)), (sorted(state), promises)
        assert found == {None, WHOLE}
        assert number > 50  # so the power did go at many a moment
