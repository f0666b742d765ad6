"""`compress`: what it writes is read by each format's own tool, where there is one, and by another library."""

import hashlib
import lzma
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from gristmill import Context, InputFile, Output
from services.processor import registry
from services.processor.child.decoding import decode
from services.processor.processors.compress import LEVELS, MEDIA_TYPES, SUFFIXES, Compress, CompressParams, Format
from services.processor.sandbox.process import RunFailed
from tests.support.files import DECODE
from tests.support.marks import long
from tests.support.sandboxed import outputs_of
from tests.unit.test_processor_sandbox import MIB, sandbox

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMATS: tuple[Format, ...] = tuple(SUFFIXES)
# Some of it repeats and some can't be compressed, and it isn't a whole number of chunks.
CONTENT = b"Grist is corn that is brought to a mill. " * 100_000 + random.Random(1).randbytes(1_234_567)


def run(folder: Path, content: bytes = CONTENT, name: str = "grist.txt", **params: Any) -> Output:
    path = folder / "input"
    path.write_bytes(content)
    file = InputFile(path, name, "text/plain", len(content))
    (output,) = Compress().process(file, CompressParams.model_validate(params), Context(folder, folder / "progress"))
    return output


@pytest.mark.parametrize("format_", FORMATS)
def test_what_it_writes_is_read_by_the_formats_own_tool(tmp_path: Path, format_: Format) -> None:
    output = run(tmp_path, format=format_)
    assert output.name == "grist.txt" + SUFFIXES[format_]
    assert output.mimetype == MEDIA_TYPES[format_]
    assert output.path.stat().st_size < len(CONTENT) / 2
    assert DECODE[format_](output.path.read_bytes()) == CONTENT
    if tool := shutil.which(format_):
        assert subprocess.run([tool, "-dc", str(output.path)], check=True, capture_output=True).stdout == CONTENT


def test_zstd_unless_told_otherwise(tmp_path: Path) -> None:
    assert run(tmp_path).name == "grist.txt.zst"


@pytest.mark.parametrize("format_", FORMATS)
def test_the_highest_level_gives_the_smaller_file(tmp_path: Path, format_: Format) -> None:
    words = [bytes([n]) * (n % 7 + 1) for n in range(256)]
    content = b"".join(random.Random(4).choices(words, k=400_000))
    sizes = []
    for level in (LEVELS[format_][0], LEVELS[format_][-1]):
        output = run(tmp_path, content, format=format_, level=level)
        assert DECODE[format_](output.path.read_bytes()) == content
        sizes.append(output.path.stat().st_size)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    "params",
    [
        {"level": 0},
        {"level": 20},
        {"format": "gzip", "level": 4},
        {"format": "bzip2", "level": 0},
        {"format": "xz", "level": 10},
        {"threads": 0},
        {"threads": 5},
        {"format": "zip"},
        {"speed": 1},
    ],
)
def test_front_refuses_what_the_processor_would_refuse(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CompressParams.model_validate(params)
    assert not jsonschema_rs.is_valid(Compress().params_schema(), params)


@pytest.mark.parametrize("format_", FORMATS)
def test_front_takes_what_the_processor_takes(format_: Format) -> None:
    for level in LEVELS[format_]:
        params = {"format": format_, "level": level}
        CompressParams.model_validate(params)
        assert jsonschema_rs.is_valid(Compress().params_schema(), params)


def test_threads_give_a_file_that_any_reader_takes(tmp_path: Path) -> None:
    output = run(tmp_path, CONTENT * 3, threads=4)
    assert zstd.decompress(output.path.read_bytes()) == CONTENT * 3


def test_a_flipped_bit_is_noticed_by_whoever_decodes_it(tmp_path: Path) -> None:
    """zstd's library leaves the checksum out unless told otherwise."""
    content = random.Random(2).randbytes(100_000)
    for format_ in FORMATS:
        spoilt = bytearray(run(tmp_path, content, format=format_).path.read_bytes())
        spoilt[len(spoilt) // 2] ^= 1
        with pytest.raises((zstd.ZstdError, OSError, lzma.LZMAError)):
            DECODE[format_](bytes(spoilt))


@pytest.mark.parametrize("format_", FORMATS)
def test_an_attempt_that_is_made_again_gives_the_same_bytes(tmp_path: Path, format_: Format) -> None:
    """So nothing of the machine, the time or the folder is in it."""
    first, second = (run(tmp_path, CONTENT[-2_000_000:], format=format_).path.read_bytes() for _ in range(2))
    assert first == second


def test_a_reader_knows_from_the_start_how_much_room_the_file_takes(tmp_path: Path) -> None:
    head = run(tmp_path, format="zstd").path.read_bytes()[:32]
    assert zstd.get_frame_info(head).decompressed_size == len(CONTENT)


def test_progress_is_told_up_to_the_end(tmp_path: Path) -> None:
    run(tmp_path)
    assert float((tmp_path / "progress").read_text()) == 1.0


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("../../etc/passwd", "passwd.zst"),
        ("C:\\photos\\a b.tif", "a-b.tif.zst"),
        ("Füße.txt", "Füße.txt.zst"),
        ("\u202e\r\n", "file.zst"),
        ("a" * 200, "a" * 124 + ".zst"),
    ],
)
def test_the_output_is_named_after_the_input_safely(tmp_path: Path, name: str, written: str) -> None:
    output = run(tmp_path, b"grist", name)
    assert output.name == written
    assert output.path.parent == tmp_path


async def confined(folder: Path, memory_bytes: int, size: int, **params: Any) -> Path:
    """What comes out of the sandbox for a file of `size` bytes, most of them zeros that aren't on the disk."""
    path = folder / "input"
    with path.open("wb") as source:
        source.write(random.Random(3).randbytes(MIB))
        source.truncate(size)
    file = InputFile(path, "zeros", "application/octet-stream", size)
    (output,) = await outputs_of(sandbox(memory_bytes), registry.installed()["compress"], file, params, folder)
    return output.path


@pytest.mark.parametrize("format_", ["zstd", "gzip", *long("xz", "bzip2")])
async def test_a_file_may_be_larger_than_the_memory_of_its_process(tmp_path: Path, format_: Format) -> None:
    size = 210 * MIB
    quick = {"level": 1} if format_ in ("xz", "bzip2") else {}
    path = await confined(tmp_path, 200 * MIB, size, format=format_, **quick)
    back = tmp_path / "back"
    assert decode(path, back, format_, max_bytes=size, max_ratio=10**7) == size
    with back.open("rb") as decoded, (tmp_path / "input").open("rb") as source:
        assert hashlib.file_digest(decoded, "sha256").digest() == hashlib.file_digest(source, "sha256").digest()


@pytest.mark.parametrize("params", [{"format": "xz", "level": 9}, {"level": 19, "threads": 4}], ids=str)
async def test_the_highest_levels_fit_into_the_memory_that_a_run_has_by_default(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    assert (await confined(tmp_path, 2048 * MIB, 40 * MIB, **params)).stat().st_size > MIB


@pytest.mark.parametrize("params", [{"format": "xz", "level": 9}, {"level": 19, "threads": 4}], ids=str)
async def test_a_level_that_needs_too_much_memory_says_so(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(RunFailed) as failed:
        await confined(tmp_path, 256 * MIB, 40 * MIB, **params)
    assert failed.value.type == "resource-limit"
