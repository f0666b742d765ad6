"""What only the filesystem store can be put through: a full disk, a broken one, bytes that rot, a writer that died."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from stat import S_IMODE, S_ISDIR

import pytest

from common.errors import AlreadyExists, NotFound, StorageFull, Unavailable
from services.blob.adapters.filesystem.folder import Disk
from services.blob.adapters.filesystem.locks import nothing_deleted
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.store import CHECK_ROOM_BYTES, FilesystemBlobStore, open_filesystem_store
from services.blob.ports import BlobStore, CorruptBlob
from tests.contract.test_blob_store import LONG, assert_absent, put, read


@pytest.fixture
async def store(tmp_path: Path, keys: MasterKeys) -> AsyncIterator[FilesystemBlobStore]:
    async with open_filesystem_store(tmp_path, keys=keys) as opened:
        yield opened


def file_of(tmp_path: Path, blob_id: str) -> Path:
    (path,) = tmp_path.glob(f"blobs/*/{blob_id}")
    return path


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def staging_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "staging").iterdir())


async def test_a_disk_that_fills_up_keeps_nothing_and_recovers(tmp_path: Path, keys: MasterKeys) -> None:
    capacity = 1_000_000

    def write(fd: int, data: memoryview) -> int:
        room = capacity - os.fstat(fd).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data[:room])  # a disk that fills up takes a part first

    async with open_filesystem_store(tmp_path, disk=Disk(write=write), keys=keys) as store:
        with pytest.raises(StorageFull):
            await put(store, "b-1", LONG)
        await assert_absent(store, "b-1")
        assert staging_files(tmp_path) == []
        capacity = 2**40
        assert (await put(store, "b-1", LONG)).created


async def test_the_room_that_must_stay_is_not_filled(tmp_path: Path, keys: MasterKeys) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    async with open_filesystem_store(tmp_path, min_free_bytes=2 * free, keys=keys) as store:
        with pytest.raises(StorageFull):
            await put(store, "b-1", b"x")
    written = 0

    def write(fd: int, data: memoryview) -> int:
        nonlocal written
        written += len(data)
        return os.write(fd, data)

    def statvfs(path: Path) -> os.statvfs_result:
        room = list(os.statvfs(path))
        room[1], room[4] = 1, CHECK_ROOM_BYTES + CHECK_ROOM_BYTES // 2 - written
        return os.statvfs_result(room)

    disk = Disk(write=write, statvfs=statvfs)
    async with open_filesystem_store(tmp_path, min_free_bytes=CHECK_ROOM_BYTES, disk=disk, keys=keys) as store:
        with pytest.raises(StorageFull):  # it looks again while the bytes arrive
            await put(store, "b-1", LONG * 10)
        await assert_absent(store, "b-1")
    assert staging_files(tmp_path) == []


async def test_nothing_is_deleted_while_a_backup_is_made(store: FilesystemBlobStore, tmp_path: Path) -> None:
    await put(store, "b-1", LONG)
    with nothing_deleted(tmp_path):
        with pytest.raises(Unavailable):
            await store.delete("b-1")
        assert (await store.stat("b-1")).size == len(LONG)
        assert (await put(store, "b-2", LONG)).created
    await store.delete("b-1")
    await assert_absent(store, "b-1")


@pytest.mark.parametrize("of_folder", [False, True], ids=["file", "folder"])
async def test_a_failed_fsync_is_a_failed_write(tmp_path: Path, keys: MasterKeys, of_folder: bool) -> None:
    calls = 0
    healthy = True

    def fsync(fd: int) -> None:
        nonlocal calls
        if not healthy and S_ISDIR(os.fstat(fd).st_mode) == of_folder:
            calls += 1
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(fd)

    async with open_filesystem_store(tmp_path, disk=Disk(fsync=fsync), keys=keys) as store:
        healthy = False
        with pytest.raises(Unavailable):
            await put(store, "b-1", LONG)
        await assert_absent(store, "b-1")
        assert calls == 1  # not tried again
        assert staging_files(tmp_path) == []
        healthy = True
        assert (await put(store, "b-1", LONG)).created


async def test_a_blob_is_answered_only_after_file_and_folder_are_on_disk(tmp_path: Path, keys: MasterKeys) -> None:
    steps: list[str] = []

    def fsync(fd: int) -> None:
        os.fsync(fd)
        there = len(list(tmp_path.glob("blobs/*/b-1")))
        steps.append(f"{'folder' if S_ISDIR(os.fstat(fd).st_mode) else 'file'} {there}")

    async with open_filesystem_store(tmp_path, disk=Disk(fsync=fsync), keys=keys) as store:
        steps.clear()
        await put(store, "b-1", b"x")
        assert steps == ["file 0", "folder 1"]
        steps.clear()
        await put(store, "b-1", b"x")
        assert steps == ["file 1", "folder 1"]


@pytest.mark.parametrize("position", [0, len(LONG) // 2, len(LONG) - 1])
async def test_bytes_that_rot_are_never_a_complete_read(
    tmp_path: Path, store: FilesystemBlobStore, position: int
) -> None:
    await put(store, "b-1", LONG)
    with file_of(tmp_path, "b-1").open("r+b") as file:
        file.seek(position)
        flipped = bytes([file.read(1)[0] ^ 1])
        file.seek(position)
        file.write(flipped)
    opened = await store.open("b-1")
    received: list[bytes | memoryview] = []

    async def receive() -> None:
        async for chunk in opened.read(0, len(LONG) - 1):
            received.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(CorruptBlob):
        await receive()
    opened.close()
    assert sum(map(len, received)) < len(LONG)


async def test_a_file_cut_short_or_without_a_footer_is_no_blob(tmp_path: Path, store: FilesystemBlobStore) -> None:
    await put(store, "b-1", LONG)
    opened = await store.open("b-1")
    os.truncate(file_of(tmp_path, "b-1"), 600_000)
    with pytest.raises(CorruptBlob):
        await read(opened)
    with pytest.raises(NotFound):
        await store.open("b-1")
    file_of(tmp_path, "b-1").write_bytes(b"")
    with pytest.raises(NotFound):
        await store.stat("b-1")
    with pytest.raises(AlreadyExists):
        await put(store, "b-1", LONG)
    await store.delete("b-1")
    assert (await put(store, "b-1", LONG)).created


async def test_what_dead_writers_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path, store: FilesystemBlobStore
) -> None:
    left = tmp_path / "staging/left"
    left.write_bytes(b"half a bl")
    hours_ago = time.time() - 7200
    os.utime(left, (hours_ago, hours_ago))
    async with store.stage("b-1", None) as staged:
        await staged.write(b"whole")
        assert await store.sweep_staging(3600) == 1
        assert not left.exists()
        await staged.digest()
        assert await staged.publish()
    assert await read(await store.open("b-1")) == b"whole"


async def test_a_second_process_on_the_same_folder_sees_the_same_blobs(tmp_path: Path, keys: MasterKeys) -> None:
    async with open_filesystem_store(tmp_path, keys=keys) as one, open_filesystem_store(tmp_path, keys=keys) as two:
        stores: list[BlobStore] = [one, two] * 4
        results = await asyncio.gather(*(put(store, "b-1", LONG) for store in stores))
        assert sum(result.created for result in results) == 1
        await two.delete("b-1")
        await assert_absent(one, "b-1")


async def test_a_read_that_is_given_up_lets_go_of_the_file(store: FilesystemBlobStore) -> None:
    await put(store, "b-1", LONG)
    before = open_descriptors()
    for _ in range(20):
        opened = await store.open("b-1")
        async for _chunk in opened.read(0, len(LONG) - 1):
            break
        opened.close()
        openings = [asyncio.create_task(store.open("b-1")) for _ in range(3)]
        await asyncio.sleep(0)
        for opening in openings:
            opening.cancel()
        await asyncio.gather(*openings, return_exceptions=True)
    # The executor takes its work in order, and is left only when all of it is done.
    async with asyncio.timeout(10):
        while open_descriptors() > before:
            await store.check()


async def test_nobody_else_on_the_machine_can_read_the_bytes(tmp_path: Path, store: FilesystemBlobStore) -> None:
    await put(store, "b-1", b"x")
    path = file_of(tmp_path, "b-1")
    assert S_IMODE(path.stat().st_mode) == 0o600
    assert S_IMODE(path.parent.stat().st_mode) == 0o700
