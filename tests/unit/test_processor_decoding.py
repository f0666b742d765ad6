"""Decoding: what every format promises, and hostile files."""

import gzip
import lzma
import random
import zlib
from pathlib import Path

import pytest

from gristmill import InvalidInput, LimitExceeded
from gristmill.wire.processors import Encoding
from services.processor.child.decoding import CHUNK_BYTES, HARMLESS_BYTES, decode
from tests.fakes.encodings import ENCODE

MIB = 2**20
ENCODINGS = tuple(ENCODE)
TEXT = b"Grist is corn that is brought to a mill. " * 50
NOISE = random.Random(1).randbytes(3 * CHUNK_BYTES + 17)


def decoded(folder: Path, encoding: Encoding, content: bytes, max_bytes: int = 2**30, max_ratio: int = 1000) -> bytes:
    source, target = folder / "source", folder / "target"
    source.write_bytes(content)
    size = decode(source, target, encoding, max_bytes=max_bytes, max_ratio=max_ratio)
    result = target.read_bytes()
    assert size == len(result)
    return result


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("content", [b"x", TEXT, NOISE, bytes(5 * MIB)], ids=["byte", "text", "noise", "zeros"])
def test_a_file_comes_out_as_it_was(tmp_path: Path, encoding: Encoding, content: bytes) -> None:
    assert decoded(tmp_path, encoding, ENCODE[encoding](content)) == content


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padding", [b"", bytes(4), bytes(2 * CHUNK_BYTES)], ids=["none", "some", "much"])
def test_members_are_one_file_whatever_zeros_are_between_and_after_them(
    tmp_path: Path, encoding: Encoding, padding: bytes
) -> None:
    parts = [NOISE, b"", TEXT, b"x"]
    assert decoded(tmp_path, encoding, b"".join(ENCODE[encoding](part) + padding for part in parts)) == b"".join(parts)


def test_frames_that_zstd_skips_are_skipped(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert decoded(tmp_path, "zstd", skippable + ENCODE["zstd"](TEXT) + skippable) == TEXT


@pytest.mark.parametrize("before", range(40))
def test_a_gzip_header_with_all_its_fields_may_lie_across_two_reads(tmp_path: Path, before: int) -> None:
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x05\0extra" + b"name\0" + b"comment\0"
    header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    first = gzip.compress(NOISE[: CHUNK_BYTES - 64], 0)
    fill = CHUNK_BYTES - before - len(first)
    first = gzip.compress(NOISE[: CHUNK_BYTES - 64 + fill], 0)
    assert len(first) == CHUNK_BYTES - before
    second = header + gzip.compress(TEXT)[10:]
    assert decoded(tmp_path, "gzip", first + second) == NOISE[: CHUNK_BYTES - 64 + fill] + TEXT


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_that_is_cut_short_is_invalid_wherever_it_is_cut(tmp_path: Path, encoding: Encoding) -> None:
    whole = ENCODE[encoding](TEXT)
    for length in range(1, len(whole)):
        with pytest.raises(InvalidInput, match="cut short"):
            decoded(tmp_path, encoding, whole[:length])
        with pytest.raises(InvalidInput, match="cut short"):
            decoded(tmp_path, encoding, whole + whole[:length])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path, encoding: Encoding) -> None:
    whole = ENCODE[encoding](TEXT)
    found = 0
    for n in range(len(whole) * 8):
        broken = bytearray(whole)
        broken[n // 8] ^= 1 << n % 8
        try:
            assert decoded(tmp_path, encoding, bytes(broken)) == TEXT
        except (InvalidInput, LimitExceeded):
            found += 1
    assert found > len(whole) * 8 * 0.5


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("content", [b"hello, this is not what it says", bytes(100)], ids=["text", "zeros"])
def test_what_is_not_of_its_encoding_is_invalid(tmp_path: Path, encoding: Encoding, content: bytes) -> None:
    with pytest.raises(InvalidInput):
        decoded(tmp_path, encoding, content)
    with pytest.raises(InvalidInput):
        decoded(tmp_path, encoding, ENCODE[encoding](TEXT) + b"\0\0rubbish")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nothing_once_decoded_is_an_empty_file(tmp_path: Path, encoding: Encoding) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        decoded(tmp_path, encoding, ENCODE[encoding](b""))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_limit_on_the_size_holds_to_the_byte_and_nothing_is_written_beyond_it(
    tmp_path: Path, encoding: Encoding
) -> None:
    content = ENCODE[encoding](NOISE)
    assert decoded(tmp_path, encoding, content, max_bytes=len(NOISE)) == NOISE
    with pytest.raises(LimitExceeded, match="larger than"):
        decoded(tmp_path, encoding, content, max_bytes=len(NOISE) - 1)
    assert (tmp_path / "target").stat().st_size < len(NOISE)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_found_by_its_ratio_and_a_small_file_of_blanks_is_none(tmp_path: Path, encoding: Encoding) -> None:
    blanks = b" " * HARMLESS_BYTES
    assert decoded(tmp_path, encoding, ENCODE[encoding](blanks), max_ratio=10) == blanks
    with pytest.raises(LimitExceeded, match="10 times"):
        decoded(tmp_path, encoding, ENCODE[encoding](blanks + b" "), max_ratio=10)
    assert (tmp_path / "target").stat().st_size <= HARMLESS_BYTES


def test_a_header_that_asks_for_gigabytes_of_memory_meets_a_limit(tmp_path: Path) -> None:
    window_of_1_gib = b"\x28\xb5\x2f\xfd\0" + bytes([20 << 3]) + b"\x09\0\0x"
    with pytest.raises(LimitExceeded, match="memory"):
        decoded(tmp_path, "zstd", window_of_1_gib)
    xz = bytearray(lzma.compress(TEXT))
    assert xz[14:16] == b"\x21\x01", "the LZMA2 filter with one byte of properties"
    xz[16] = 40  # a dictionary of 4 GiB - 1
    xz[20:24] = zlib.crc32(xz[12:20]).to_bytes(4, "little")
    with pytest.raises(LimitExceeded, match="memory"):
        decoded(tmp_path, "xz", bytes(xz))
