"""Uploads whose process dies, on the filesystem; and another process on the same folder."""

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from stat import S_ISDIR

import pytest

from common.errors import AlreadyExists, Conflict, NotFound
from services.blob.adapters.filesystem.folder import Disk, Folder
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.pieces import stored_size
from services.blob.adapters.filesystem.upload_folder import UploadFolder
from services.blob.ports import StoredBlob
from tests.support.uploading import LONG, SHORT, WHOLE, Opened, facts_of, grant_of, in_chunks, opened


def only_file(root: Path, blob_id: str) -> Path:
    (path,) = root.glob(f"blobs/*/{blob_id}")
    return path


@pytest.fixture
async def blob(tmp_path: Path, keys: MasterKeys) -> AsyncIterator[Opened]:
    async with opened(tmp_path, keys=keys) as one:
        yield one


async def test_while_another_process_sends_a_part_nothing_is_verified(tmp_path: Path, blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    fd = os.open(tmp_path / "uploads" / facts.id / "data", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    for number in WHOLE:
        await blob.send(facts, number)
    assert (await blob.uploads.complete(facts, [])).state == "VERIFYING"
    assert not await blob.is_there(facts)
    os.close(fd)
    assert (await blob.uploads.complete(facts, [])).state == "COMPLETE"


async def test_while_another_process_verifies_no_part_is_taken(tmp_path: Path, blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    await blob.send(facts, 1)
    fd = os.open(tmp_path / "uploads" / facts.id / "data", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    for number in (1, 2):
        with pytest.raises(Conflict):
            await blob.send(facts, number)
    os.close(fd)
    assert await blob.received(facts) == [1]


class DiedError(Exception):
    """Stands for the end of the process: nothing after it is done."""


@pytest.mark.parametrize("last", [1, 2, 3], ids=["footer", "link", "removal"])
async def test_a_completion_that_died_anywhere_is_finished_by_the_next_process(
    tmp_path: Path, keys: MasterKeys, last: int
) -> None:
    facts = facts_of(LONG)
    folder = tmp_path / "uploads" / facts.id
    calls = 0

    def fsync(fd: int) -> None:
        nonlocal calls
        os.fsync(fd)
        # The completion's begin with that of the file with the footer.
        if calls or os.fstat(fd).st_size > (stored_size(len(LONG)) if keys.newest else len(LONG)):
            calls += 1
            if calls >= last:
                raise DiedError

    async with opened(tmp_path, Disk(fsync=fsync), keys=keys) as blob:
        await blob.plan(facts)
        for number in WHOLE:
            await blob.send(facts, number)
        async with asyncio.timeout(20):
            while calls < last:  # noqa: ASYNC110 - the verification tells nobody
                await asyncio.sleep(0.01)
    assert folder.exists() == (last < 3)
    async with opened(tmp_path, keys=keys) as blob:
        await blob.completed(facts)
        assert (await blob.uploads.complete(facts, [])).state == "COMPLETE"
        assert await blob.read(facts) == LONG
    assert not folder.exists()


async def test_a_blob_is_never_written_to_by_an_upload_that_died_behind_it(tmp_path: Path, keys: MasterKeys) -> None:
    facts = facts_of(LONG)
    dying, died = True, False

    def fsync(fd: int) -> None:
        nonlocal died
        os.fsync(fd)
        if dying and (S_ISDIR(os.fstat(fd).st_mode) and list(tmp_path.glob(f"blobs/*/{facts.id}"))):
            died = True
            raise DiedError

    async with opened(tmp_path, Disk(fsync=fsync), keys=keys) as blob:
        await blob.plan(facts)
        for number in WHOLE:
            await blob.send(facts, number)
        async with asyncio.timeout(20):
            while not died:  # noqa: ASYNC110 - the verification tells nobody
                await asyncio.sleep(0.01)
        dying = False
        assert (tmp_path / "uploads" / facts.id / "data").stat().st_nlink == 2
        for number in WHOLE:
            with pytest.raises(Conflict):
                await blob.send(facts, number, bytes(len(LONG)))
        assert (await blob.uploads.complete(facts, [])).state == "COMPLETE"
        assert list((tmp_path / "uploads").iterdir()) == []
        with pytest.raises(AlreadyExists):
            await blob.send(facts, 1)
        assert await blob.read(facts) == LONG


async def test_a_verification_that_died_behind_a_blob_does_not_bless_other_bytes(
    tmp_path: Path, keys: MasterKeys
) -> None:
    facts = facts_of(LONG, digest=False)
    async with opened(tmp_path, keys=keys) as blob:
        await blob.plan(facts)
        folder = tmp_path / "uploads" / facts.id
        kept = (folder / "facts.json").read_bytes()
        for number in WHOLE:
            await blob.send(facts, number)
        await blob.completed(facts)
    # As it is left by a process that died between the link and the removal; and then the disk rots.
    folder.mkdir()
    (folder / "facts.json").write_bytes(kept)
    (folder / "data").hardlink_to(only_file(tmp_path, facts.id))
    for number in WHOLE:
        (folder / f"{number:05}").write_text("0" * 64 + "\n")
    with (folder / "data").open("r+b") as file:
        file.write(bytes([LONG[0] ^ 1]))
    UploadFolder(Folder(tmp_path, Disk(), keys)).verify(facts.id, lambda: False)
    assert Folder(tmp_path, Disk(), keys).stat(facts.id).sha256 == hashlib.sha256(LONG).hexdigest()
    assert not folder.exists()


async def test_what_a_power_failure_cut_short_does_not_count(tmp_path: Path, blob: Opened) -> None:
    facts, single = facts_of(LONG), facts_of(SHORT)
    await blob.plan(facts)
    await blob.plan(single)
    (tmp_path / "uploads" / facts.id / "00001").write_text("0" * 30)
    assert await blob.received(facts) == []
    (tmp_path / "uploads" / single.id / "facts.json").write_text("")
    with pytest.raises(NotFound):
        await blob.uploads.receive(grant_of(single, None), in_chunks(SHORT), None)
    await blob.plan(single)
    await blob.uploads.receive(grant_of(single, None), in_chunks(SHORT), None)
    assert await blob.is_there(single)


async def test_two_processes_share_an_upload(tmp_path: Path, keys: MasterKeys) -> None:
    facts = facts_of(LONG)
    async with opened(tmp_path, keys=keys) as one, opened(tmp_path, keys=keys) as two:
        await asyncio.gather(*(blob.plan(facts) for blob in (one, two) * 8))
        await asyncio.gather(*(blob.send(facts, number) for blob, number in zip((one, two) * 2, WHOLE, strict=True)))
        await asyncio.gather(*(blob.uploads.complete(facts, []) for blob in (one, two) * 4))
        await one.completed(facts)
        assert (await two.uploads.complete(facts, [])).state == "COMPLETE"
        assert await two.read(facts) == LONG
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_who_asks_just_while_it_is_completed_is_not_told_that_parts_are_missing(
    tmp_path: Path, keys: MasterKeys
) -> None:
    right, wrong = facts_of(LONG), facts_of(LONG, announced=b"else")
    sending: list[int] = []
    async with opened(tmp_path, keys=keys) as blob:
        for facts in (right, wrong):
            await blob.plan(facts)
            # As if another process were still sending, so that nothing is verified yet.
            sending.append(os.open(tmp_path / "uploads" / facts.id / "data", os.O_RDONLY))
            fcntl.flock(sending[-1], fcntl.LOCK_SH)
            for number in WHOLE:
                await blob.send(facts, number)

    for fd in sending:
        os.close(fd)

    class Late(Folder):
        """Between the first look, which finds no blob, and the next the upload is verified."""

        def stat(self, blob_id: str) -> StoredBlob:
            try:
                return super().stat(blob_id)
            except NotFound:
                UploadFolder(Folder(tmp_path, Disk(), keys)).verify(blob_id, lambda: False)
                raise

    asked = UploadFolder(Late(tmp_path, Disk(), keys))
    assert asked.look(right).status.state == "COMPLETE"
    assert asked.look(wrong).status.state == "MISMATCH"
