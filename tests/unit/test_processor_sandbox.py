"""The sandbox with the real processors in real child processes."""

import io
from pathlib import Path

import pytest
from PIL import Image

from gristmill import InputFile
from services.processor import registry
from services.processor.child import Limits
from services.processor.sandbox import RunFailed, Sandbox

MIB = 2**20


def sandbox(memory_bytes: int) -> Sandbox:
    limits = Limits(memory_bytes=memory_bytes, cpu_seconds=60, output_bytes=2**30, open_files=256)
    return Sandbox(limits, wall_seconds=60)


def picture(folder: Path, width: int, height: int) -> InputFile:
    path = folder / "input"
    target = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(target, "PNG", compress_level=1)
    path.write_bytes(target.getvalue())
    return InputFile(path, "teal.png", "image/png", len(target.getvalue()))


async def test_libvips_works_in_a_forked_child(tmp_path: Path) -> None:
    processor = registry.installed()["image-variants"]
    outputs = await sandbox(2048 * MIB).run(processor, picture(tmp_path, 600, 400), {"widths": [60]}, tmp_path)
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
        await sandbox(memory_bytes).run(processor, picture(tmp_path, 9000, 6000), {}, tmp_path)
    assert failed.value.type == "resource-limit"


def test_installed_processors_are_offered_with_a_schema_that_a_query_string_can_follow() -> None:
    offers = {offer.name: offer for offer in registry.offers(registry.installed().values())}
    assert {"checksum", "image-variants"} <= offers.keys()
    properties = offers["image-variants"].params["properties"]
    assert properties["widths"]["type"] == "array"
    assert properties["widths"]["items"]["type"] == "integer"
    assert properties["quality"]["type"] == "integer"
    assert properties["format"]["enum"] == ["webp", "avif", "jpeg", "png"]
    assert offers["image-variants"].params["additionalProperties"] is False
