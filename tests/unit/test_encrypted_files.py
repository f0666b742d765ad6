"""Encrypted files: whatever is done to one on the disk, its reader gets the bytes that were written, or none."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import NotFound
from services.blob.adapters.filesystem.encrypted_footer import find_encrypted
from services.blob.adapters.filesystem.folder import Disk, Folder
from services.blob.adapters.filesystem.pieces import (
    KEY_BYTES,
    PIECE_BYTES,
    TAG_BYTES,
    Encryption,
    reading,
    stored_size,
)
from services.blob.adapters.footer import Footer
from services.blob.ports import CorruptBlob
from tests.fakes.keys import master_keys

STORED_BYTES = PIECE_BYTES + TAG_BYTES
# Four pieces, the last of them short, and no two alike; in two parts.
LONG = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(56_000))
PART_PIECES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("data"), Disk(fsync=lambda _fd: None), master_keys("2026"))
    folder.prepare()
    return folder


def put(folder: Folder, blob_id: str, data: bytes, chunk_bytes: int = 300_000) -> Path:
    """A blob that came in one go, in the place of the one before; its file."""
    forget(folder, blob_id)
    staging = folder.create()
    for start in range(0, len(data), chunk_bytes):
        staging.writer.write(data[start : start + chunk_bytes])
    folder.publish(blob_id, staging, Footer(len(data), hashlib.sha256(data).digest()))
    return file_of(folder, blob_id)


def put_parts(folder: Folder, blob_id: str, data: bytes, key: bytes) -> Path:
    """A blob that came in parts, the last one first; its file."""
    forget(folder, blob_id)
    file = folder.root / "parts"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)
    part_bytes = PART_PIECES * PIECE_BYTES
    prefixes = b""
    for start in reversed(range(0, len(data), part_bytes)):
        os.lseek(fd, start // PIECE_BYTES * STORED_BYTES, os.SEEK_SET)
        writer = folder.writer(fd, key, first=start // PIECE_BYTES, last=start + part_bytes >= len(data))
        writer.write(data[start : start + part_bytes])
        encryption = writer.finish()
        assert encryption
        prefixes = encryption.prefixes + prefixes
    os.lseek(fd, stored_size(len(data)), os.SEEK_SET)
    footer = Footer(len(data), hashlib.sha256(data).digest())
    assert folder.seal(blob_id, file, fd, footer, Encryption(key, PART_PIECES, prefixes))
    os.close(fd)
    file.unlink()
    return file_of(folder, blob_id)


def forget(folder: Folder, blob_id: str) -> None:
    with suppress(NotFound):
        folder.delete(blob_id)


def file_of(folder: Folder, blob_id: str) -> Path:
    (file,) = folder.root.glob(f"blobs/*/{blob_id}")
    return file


def read(folder: Folder, blob_id: str, first: int = 0, end: int | None = None) -> bytes:
    opened = folder.open(blob_id)
    try:
        return bytes(opened.read(first, opened.blob.size if end is None else end))
    finally:
        os.close(opened.fd)


@contextmanager
def opened(folder: Folder, blob_id: str) -> Iterator[tuple[int, Encryption]]:
    """The file, and what its pieces are encrypted with."""
    with file_of(folder, blob_id).open("rb") as file:
        footer = find_encrypted(file.fileno(), file.seek(0, os.SEEK_END), blob_id)
        assert footer
        yield file.fileno(), footer.unwrap(folder.keys)[1]


def pieces_served(folder: Folder, blob_id: str, data: bytes) -> list[int]:
    """The pieces that are served, which have to be the right bytes."""
    served = []
    for number, start in enumerate(range(0, len(data), PIECE_BYTES)):
        try:
            piece = read(folder, blob_id, start, min(start + PIECE_BYTES, len(data)))
        except (NotFound, CorruptBlob):
            continue
        assert piece == data[start : start + PIECE_BYTES]
        served.append(number)
    return served


@given(
    size=st.integers(0, len(LONG))
    | st.sampled_from([n * PIECE_BYTES + more for n in (1, 2, 3) for more in (-1, 0, 1)]),
    chunk_bytes=st.integers(10_000, 1_000_000),
    data=st.data(),
)
def test_any_range_of_any_size_reads_as_it_was_written(
    folder: Folder, size: int, chunk_bytes: int, data: st.DataObject
) -> None:
    put(folder, "b-1", LONG[:size], chunk_bytes)
    first = data.draw(st.integers(0, size))
    end = data.draw(st.integers(first, size))
    assert read(folder, "b-1", first, end) == LONG[first:end]
    assert read(folder, "b-1") == LONG[:size]


@pytest.mark.parametrize("parts", [False, True], ids=["in one go", "in parts"])
def test_a_flipped_bit_is_never_served(folder: Folder, parts: bool) -> None:
    file = put_parts(folder, "b-1", LONG, os.urandom(KEY_BYTES)) if parts else put(folder, "b-1", LONG)
    whole = file.read_bytes()
    end = stored_size(len(LONG))
    pieces = {at for start in range(0, end, STORED_BYTES) for at in (start, min(start + STORED_BYTES, end) - 1)}
    for position in sorted(pieces | {*range(end, len(whole))}):
        for bit in (1, 128):
            changed = bytearray(whole)
            changed[position] ^= bit
            file.write_bytes(changed)
            served = pieces_served(folder, "b-1", LONG)
            if position < end:
                assert served == [number for number in range(4) if number != position // STORED_BYTES]
            else:  # of what is there twice, one may be spoilt
                assert served in ([], [0, 1, 2, 3])


@pytest.mark.parametrize("parts", [False, True], ids=["in one go", "in parts"])
def test_a_piece_is_served_from_its_own_place_alone(folder: Folder, parts: bool) -> None:
    key = os.urandom(KEY_BYTES)
    file = put_parts(folder, "b-1", LONG, key) if parts else put(folder, "b-1", LONG)
    # Another file of another key, and an earlier try at the same one.
    others = [put(folder, "b-2", LONG).read_bytes(), put_parts(folder, "b-3", LONG, key).read_bytes()]
    whole = file.read_bytes()
    stored, footer = whole[: stored_size(len(LONG))], whole[stored_size(len(LONG)) :]
    pieces = [stored[start : start + STORED_BYTES] for start in range(0, len(stored), STORED_BYTES)]
    changes = [
        ([pieces[1], pieces[0], *pieces[2:]], [2, 3]),
        ([pieces[0], pieces[2], pieces[1], pieces[3]], [0, 3]),
        ([pieces[0], pieces[0], *pieces[2:]], [0, 2, 3]),
        ([others[0][:STORED_BYTES], *pieces[1:]], [1, 2, 3]),
        ([others[1][:STORED_BYTES], *pieces[1:]], [1, 2, 3]),
    ]
    for changed, served in changes:
        file.write_bytes(b"".join(changed) + footer)
        assert pieces_served(folder, "b-1", LONG) == served


def test_a_file_that_was_cut_short_or_has_grown_is_not_served(folder: Folder) -> None:
    file = put(folder, "b-1", LONG)
    whole = file.read_bytes()
    end = stored_size(len(LONG))
    shorter = put(folder, "b-2", LONG[: 2 * PIECE_BYTES]).read_bytes()
    for changed in (
        b"",
        whole[:-1],
        whole[:end],
        whole[STORED_BYTES:],
        whole[: 3 * STORED_BYTES] + whole[end:],
        whole[:STORED_BYTES] + whole,
        whole + whole[end:],
        # As long as another file's footer says, which isn't this one's.
        whole[: 2 * STORED_BYTES] + shorter[2 * STORED_BYTES :],
    ):
        file.write_bytes(changed)
        assert pieces_served(folder, "b-1", LONG) == []


def test_a_file_under_anothers_name_is_not_served(folder: Folder) -> None:
    one, two = put(folder, "b-1", LONG), put(folder, "b-2", LONG)
    one.write_bytes(two.read_bytes())
    assert pieces_served(folder, "b-1", LONG) == []
    assert read(folder, "b-2") == LONG


def test_a_piece_that_is_not_the_last_does_not_pass_for_it(folder: Folder) -> None:
    put(folder, "b-1", LONG)
    with opened(folder, "b-1") as (fd, encryption):
        with pytest.raises(CorruptBlob):
            reading(fd, 2 * PIECE_BYTES, encryption)(PIECE_BYTES, 2 * PIECE_BYTES)
        assert reading(fd, 2 * PIECE_BYTES, encryption)(0, PIECE_BYTES) == LONG[:PIECE_BYTES]


def test_the_same_bytes_are_never_encrypted_alike(folder: Folder) -> None:
    """Neither in two files, nor in two tries at a part, whose key is the same."""
    key = os.urandom(KEY_BYTES)
    files = [put(folder, "b-1", LONG), put(folder, "b-2", LONG)]
    files += [put_parts(folder, f"b-{number}", LONG, key) for number in (3, 4)]
    for position in range(0, stored_size(len(LONG)), STORED_BYTES):
        assert len({file.read_bytes()[position : position + STORED_BYTES] for file in files}) == 4
    with opened(folder, "b-1") as (_, one), opened(folder, "b-2") as (_, two):
        assert one.key != two.key


def test_of_two_copies_the_one_that_is_of_no_use_is_written_over_first(folder: Folder) -> None:
    file = put(folder, "b-1", LONG)
    whole, newer = file.read_bytes(), master_keys("2026", "2027")
    with opened(folder, "b-1") as (fd, _):

        def offsets() -> list[int]:
            footer = find_encrypted(fd, len(whole), "b-1")
            assert footer
            return [offset for offset, _ in footer.wrapped_anew(newer)]

        first, second = offsets()
        for broken, order in ((first, [first, second]), (second, [second, first])):
            file.write_bytes(whole[:broken] + b"x" + whole[broken + 1 :])
            assert offsets() == order
