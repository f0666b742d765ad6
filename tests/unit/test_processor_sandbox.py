"""The sandbox with the real processors in real child processes."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from gristmill import InputFile
from gristmill.wire.processors import Encoding
from services.processor import registry
from services.processor.child.main import Limits
from services.processor.sandbox.process import RunFailed, Sandbox
from tests.fakes.encodings import ENCODE
from tests.fakes.processors import Scripted
from tests.support.marks import long
from tests.support.sandboxed import outputs_of

MIB = 2**20


def sandbox(memory_bytes: int, **others: int) -> Sandbox:
    limits = Limits(
        **{
            "memory_bytes": memory_bytes,
            "cpu_seconds": 60,
            "wall_seconds": 60,
            "output_bytes": 2**30,
            "work_bytes": 2**30,
            "open_files": 256,
            "max_decoded_bytes": 2**30,
            "max_decoded_ratio": 1000,
            **others,
        }
    )
    return Sandbox.started(limits, registry.installed().values())


def picture(folder: Path, width: int, height: int) -> InputFile:
    path = folder / "input"
    target = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(target, "PNG", compress_level=1)
    path.write_bytes(target.getvalue())
    return InputFile(path, "teal.png", "image/png", len(target.getvalue()))


async def test_libvips_works_in_a_forked_child(tmp_path: Path) -> None:
    processor = registry.installed()["image-variants"]
    outputs = await outputs_of(sandbox(2048 * MIB), processor, picture(tmp_path, 600, 400), {"widths": [60]}, tmp_path)
    assert [output.name for output in outputs] == ["teal-60.webp", "teal-original.webp"]
    with Image.open(outputs[0].path) as variant:
        assert variant.size == (60, 40)
    assert [path.name for path in outputs[0].path.parent.iterdir() if path.suffix == ".v"] == []


@pytest.mark.parametrize("memory_bytes", [120 * MIB, 160 * MIB, 200 * MIB])
async def test_a_picture_that_needs_too_much_memory_is_told_from_a_broken_one(
    tmp_path: Path, memory_bytes: int
) -> None:
    processor = registry.installed()["image-variants"]
    with pytest.raises(RunFailed) as failed:
        await outputs_of(sandbox(memory_bytes), processor, picture(tmp_path, 9000, 6000), {}, tmp_path)
    assert failed.value.type == "resource-limit"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", *long("xz", "bzip2")])
async def test_a_compressed_input_may_be_larger_than_the_memory_of_its_process(
    tmp_path: Path, encoding: Encoding
) -> None:
    size = 256 * MIB
    (tmp_path / "input").write_bytes(ENCODE[encoding](bytes(size)))
    file = InputFile(tmp_path / "input", "zeros", "application/octet-stream", (tmp_path / "input").stat().st_size)
    small = sandbox(200 * MIB, max_decoded_ratio=10**7)
    outputs = await outputs_of(small, registry.installed()["checksum"], file, {}, tmp_path, encoding)
    found = json.loads(outputs[0].path.read_text())
    assert found["size"] == size
    assert found["digest"] == hashlib.sha256(bytes(size)).hexdigest()
    assert (tmp_path / "input").stat().st_size == 0, "what was decoded isn't kept twice"


async def test_what_an_input_decodes_to_has_a_limit_of_its_own_beside_that_of_outputs(tmp_path: Path) -> None:
    processor = registry.installed()["checksum"]
    path = tmp_path / "input"
    path.write_bytes(ENCODE["gzip"](bytes(32 * MIB)))
    file = InputFile(path, "zeros", "application/octet-stream", path.stat().st_size)
    confined = sandbox(500 * MIB, max_decoded_bytes=32 * MIB - 1, max_decoded_ratio=10**4)
    with pytest.raises(RunFailed) as failed:
        await outputs_of(confined, processor, file, {}, tmp_path, "gzip")
    assert failed.value.type == "limit"
    (tmp_path / "work").rmdir()
    confined = sandbox(500 * MIB, output_bytes=MIB, max_decoded_bytes=32 * MIB, max_decoded_ratio=10**4)
    assert await outputs_of(confined, processor, file, {}, tmp_path, "gzip")


async def test_the_limit_of_outputs_is_back_once_the_input_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(ENCODE["gzip"](b"hello"))
    file = InputFile(path, "a.txt", "text/plain", path.stat().st_size)
    confined = sandbox(500 * MIB, output_bytes=MIB, max_decoded_bytes=32 * MIB)
    with pytest.raises(RunFailed) as failed:
        await outputs_of(confined, Scripted(), file, {"act": "fill"}, tmp_path, "gzip")
    assert failed.value.type == "resource-limit"
    (written,) = (tmp_path / "work").iterdir()
    assert written.stat().st_size == MIB


def test_installed_processors_are_offered_with_a_schema_that_a_query_string_can_follow() -> None:
    offers = {offer.name: offer for offer in registry.offers(registry.installed().values())}
    assert {"checksum", "image-variants"} <= offers.keys()
    properties = offers["image-variants"].params["properties"]
    assert properties["widths"]["type"] == "array"
    assert properties["widths"]["items"]["type"] == "integer"
    assert properties["quality"]["type"] == "integer"
    assert properties["format"]["enum"] == ["webp", "avif", "jpeg", "png"]
    assert offers["image-variants"].params["additionalProperties"] is False
