"""`extract-metadata`: files are made with Pillow, the standard library, or by hand."""

import io
import json
import struct
import wave
import zlib
from pathlib import Path
from typing import Any

import pytest
import pyvips
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from gristmill import Context, InputFile, InvalidInput
from services.processor import registry
from services.processor.processors.extract_metadata import ExtractMetadata, ExtractMetadataParams
from tests.fakes.pdfs import pdf
from tests.support.files import BERLIN, encoded, exif
from tests.support.marks import long
from tests.support.sandboxed import outputs_of
from tests.unit.test_processor_sandbox import MIB, sandbox


def run(folder: Path, content: bytes, mimetype: str = "application/octet-stream", **params: Any) -> dict[str, Any]:
    path = folder / "input"
    path.write_bytes(content)
    file = InputFile(path, "x", mimetype, len(content))
    (output,) = ExtractMetadata().process(file, ExtractMetadataParams.model_validate(params), Context(folder))
    assert (output.name, output.mimetype) == ("metadata.json", "application/json")
    found: dict[str, Any] = json.loads(output.path.read_text())
    assert found["size"] == len(content)
    return found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_pictures_tell_their_dimensions_and_exif_but_no_place(tmp_path: Path, kind: str) -> None:
    content = encoded(kind, exif=exif().tobytes())
    found = run(tmp_path, content)
    assert found["mediaType"] == f"image/{kind.lower()}"
    image = {name: found["image"][name] for name in ("width", "height", "bands", "bitsPerSample", "frames", "alpha")}
    # An AVIF is turned by its own means, which Pillow writes and libvips carries out.
    sides = (40, 60) if kind == "AVIF" else (60, 40)
    assert image == {
        "width": sides[0],
        "height": sides[1],
        "bands": 3,
        "bitsPerSample": 8,
        "frames": 1,
        "alpha": False,
    }
    told = {
        "Make": "Canon (x)",
        "Model": "EOS",
        "ExposureTime": 0.015625,
        "PhotographicSensitivity": 400,
        "DateTimeOriginal": "2026:01:02 03:04:05",
        "LensSpecification": [24.0, 70.0, 2.8, 4.0],
    }
    assert {name: found["exif"].get(name) for name in told} == told
    assert "location" not in found
    assert not {"Berlin", "52", "31.0"} & set(json.dumps(found["exif"]).replace('"', " ").split())
    assert run(tmp_path, content, location=True)["location"] == BERLIN


def test_orientation_frames_and_profile(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = run(tmp_path, encoded(exif=exif(), icc_profile=profile))["image"]
    assert image["orientation"] == 6
    assert image["iccProfile"] == "sRGB built-in"
    assert image["colourSpace"] == "srgb"
    frames = [Image.new("RGB", (8, 8), (n * 90, 0, 0)) for n in range(3)]
    assert run(tmp_path, encoded("GIF", frames[0], save_all=True, append_images=frames[1:]))["image"]["frames"] == 3
    pages = [Image.new("L", (8, 8), n) for n in range(5)]
    tiff = run(tmp_path, encoded("TIFF", pages[0], save_all=True, append_images=pages[1:]))["image"]
    assert (tiff["frames"], tiff["height"], tiff["bands"]) == (5, 8, 1)
    assert run(tmp_path, encoded("PNG", Image.new("RGBA", (8, 8))))["image"]["alpha"] is True


def test_a_profile_of_version_2_tells_its_name(tmp_path: Path) -> None:
    name = b"Grist RGB\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name
    profile = bytes(128) + struct.pack(">I4sII", 1, b"desc", 144, len(desc)) + desc
    assert run(tmp_path, encoded(icc_profile=profile))["image"]["iccProfile"] == "Grist RGB"
    assert "iccProfile" not in run(tmp_path, encoded(icc_profile=profile[:140]))["image"]


def test_no_text_of_a_camera_upsets_a_reader_of_json(tmp_path: Path) -> None:
    found = run(tmp_path, encoded(exif=exif(make="a\x1b[31mb\r\nc" + "x" * 5000)))
    assert found["exif"]["Make"].startswith("a[31mb c")
    assert len(found["exif"]["Make"]) == 1000


def tiff_block(entries: bytes, count: int, more: bytes = b"") -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4) + more


def with_exif(block: bytes) -> bytes:
    return encoded(exif=b"Exif\0\0" + block)


@pytest.mark.parametrize(
    ("comment", "shown"),
    [
        (b"ASCII\0\0\0hello\0\0", "hello"),
        (b"\0\0\0\0\0\0\0\0hello", "hello"),
        (b"UNICODE\0" + "Fü\u202eße".encode("utf-16"), "Füße"),
        (b"no charset\xff", "no charsetÿ"),
    ],
)
def test_a_comment_is_told_in_its_own_characters(tmp_path: Path, comment: bytes, shown: str) -> None:
    nested = tiff_block(struct.pack("<HHII", 0x9286, 7, len(comment), 44), 1)[8:]
    block = tiff_block(struct.pack("<HHII", 0x8769, 4, 1, 26), 1, nested + comment)
    assert run(tmp_path, with_exif(block))["exif"] == {"UserComment": shown}


@pytest.mark.parametrize(
    "block",
    [
        tiff_block(struct.pack("<HHII", 0x8769, 4, 1, 8), 1),  # a directory that is its own child
        tiff_block(struct.pack("<HHII", 0x010F, 2, 2**32 - 1, 8), 1),  # a text of 4 GB
        tiff_block(struct.pack("<HHII", 0x829A, 5, 2**31, 8), 1),  # as many numbers
        tiff_block(struct.pack("<HHII", 0x829A, 5, 1, 26) + bytes(12), 1, bytes(8)),  # nothing divided by nothing
        tiff_block(struct.pack("<HHII", 0x829A, 5, 1, 2**32 - 1), 1),  # behind the end
        tiff_block(b"", 65_535),
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"rubbish",
        tiff_block(struct.pack("<HHIf", 0x829A, 11, 1, float("nan")), 1),
    ],
    ids=range(10),
)
def test_broken_exif_spoils_nothing_else(tmp_path: Path, block: bytes) -> None:
    found = run(tmp_path, with_exif(block), location=True)
    assert found["image"]["width"] == 60
    assert "problem" not in found


def test_a_list_of_hundreds_of_numbers_is_left_out(tmp_path: Path) -> None:
    for count, told in ((32, {"PhotographicSensitivity": [7] * 32}), (33, None)):
        block = tiff_block(struct.pack("<HHII", 0x8827, 3, count, 26), 1, struct.pack("<H", 7) * count)
        assert run(tmp_path, with_exif(block)).get("exif") == told


def bomb(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = zlib.compressobj(1)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    row = bytes(side // 8 + 1)
    data = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * MIB)))
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", data) + chunk(b"IEND", b"")


async def confined(folder: Path, content: bytes, memory_bytes: int = 250 * MIB) -> dict[str, Any]:
    (folder / "input").write_bytes(content)
    file = InputFile(folder / "input", "a", "application/octet-stream", len(content))
    (output,) = await outputs_of(sandbox(memory_bytes), registry.installed()["extract-metadata"], file, {}, folder)
    found: dict[str, Any] = json.loads(output.path.read_text())
    return found


async def test_a_pixel_bomb_costs_no_more_than_its_header(tmp_path: Path) -> None:
    """60,000 x 60,000 pixels are 3.6 GB, and its comment is 200 MB."""
    found = await confined(tmp_path, bomb(60_000))
    assert (found["image"]["width"], found["image"]["height"]) == (60_000, 60_000)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", *long("GIF", "AVIF")])
async def test_large_pictures_are_not_decoded(tmp_path: Path, kind: str) -> None:
    """9,000 x 9,000 pixels are 243 MB, as much as it may have."""
    options = {"speed": 10} if kind == "AVIF" else {}
    found = await confined(tmp_path, encoded(kind, Image.new("RGB", (9_000, 9_000), "teal"), **options))
    assert (found["image"]["width"], found["image"]["height"]) == (9_000, 9_000)


async def test_the_largest_webp_fits_into_the_memory_that_a_run_has_by_default(tmp_path: Path) -> None:
    """libvips takes the room for one frame, and touches none of it."""
    largest = pyvips.Image.black(16_383, 16_383, bands=3).webpsave_buffer(lossless=True, effort=0)
    found = await confined(tmp_path, largest, 2048 * MIB)
    assert (found["image"]["width"], found["image"]["height"]) == (16_383, 16_383)


async def test_a_text_may_be_larger_than_the_memory_of_its_process(tmp_path: Path) -> None:
    content = b"grist and mill\n" * (300 * MIB // 15)
    assert (await confined(tmp_path, content))["text"]["lines"] == 300 * MIB // 15


def test_a_pdf_tells_its_pages_and_title(tmp_path: Path) -> None:
    found = run(tmp_path, pdf(3, info=b"/Title(The\\tMill)/Author()"))
    assert found["mediaType"] == "application/pdf"
    assert found["pdf"] == {"pages": 3, "encrypted": False, "title": "The Mill"}
    assert run(tmp_path, pdf(10_000))["pdf"]["pages"] == 10_000
    protected = run(tmp_path, pdf(password="grist"))
    assert protected["pdf"] == {"encrypted": True}
    assert "password" in protected["problem"]


def wav() -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(8000)
        writer.writeframes(bytes(8000 * 4 * 3))
    return target.getvalue()


def flac() -> bytes:
    numbers = (44_100 << 44) | (1 << 41) | (15 << 36) | 441_000
    stream = struct.pack(">HH6s", 4096, 4096, bytes(6)) + numbers.to_bytes(8, "big") + bytes(16)
    said = [b"TITLE=The\x00 Mill", b"ARTIST=" + b"x" * 5000]
    comments = struct.pack("<I", 0) + struct.pack("<I", len(said))
    comments += b"".join(struct.pack("<I", len(text)) + text for text in said)
    return b"fLaC\0\0\0\x22" + stream + b"\x84" + len(comments).to_bytes(3, "big") + comments + bytes(1000)


def test_recordings_tell_how_long_they_are_and_what_their_tags_say(tmp_path: Path) -> None:
    found = run(tmp_path, wav())
    assert found["mediaType"] == "audio/wav"
    assert found["audio"] == {"seconds": 3, "channels": 2, "sampleRate": 8000, "bits": 16, "kilobitsPerSecond": 256}
    tagged = run(tmp_path, flac())
    assert tagged["mediaType"] == "audio/flac"
    assert (tagged["audio"]["seconds"], tagged["audio"]["sampleRate"]) == (10, 44_100)
    assert tagged["audio"]["title"] == "The Mill"
    assert len(tagged["audio"]["artist"]) == 1000


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def movie(*, wide: bool) -> bytes:
    times = struct.pack(">QQIQ", 0, 0, 1000, 12_345) if wide else struct.pack(">IIII", 0, 0, 1000, 12_345)
    ids = struct.pack(">QQIIQ", 0, 0, 1, 0, 5) if wide else struct.pack(">IIIII", 0, 0, 1, 0, 5)
    version = struct.pack(">I", wide << 24)
    picture = version + ids + bytes(16 + 36) + struct.pack(">II", 1920 << 16, 1080 << 16)
    sound = version + ids + bytes(16 + 36 + 8)
    described = box(
        b"moov",
        box(b"mvhd", version, times, bytes(80)),
        box(b"trak", box(b"tkhd", sound)),
        box(b"trak", box(b"tkhd", picture)),
    )
    # As phones write it: the pictures first, in a box with a size of 64 bits.
    return box(b"ftyp", b"isom", bytes(8)) + struct.pack(">I4sQ", 1, b"mdat", 1016) + bytes(1000) + described


@pytest.mark.parametrize("wide", [False, True])
def test_videos_tell_how_long_and_how_large_they_are(tmp_path: Path, wide: bool) -> None:
    found = run(tmp_path, movie(wide=wide))
    assert found["mediaType"] == "video/mp4"
    assert found["video"] == {"seconds": 12.345, "width": 1920, "height": 1080}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (encoded()[:20], "image/jpeg"),
        (encoded("PNG")[:20], "image/png"),
        (encoded("WEBP")[:18], "image/webp"),
        (encoded("TIFF")[:10], "image/tiff"),
        (pdf(3)[:500], "application/pdf"),
        (wav()[:14], "audio/wav"),
        (movie(wide=True)[:500], "video/mp4"),
        (movie(wide=False)[:-10], "video/mp4"),
        (box(b"ftyp", b"isom", bytes(8)) + struct.pack(">I4sQ", 1, b"free", 2**64 - 1) + bytes(99), "video/mp4"),
        (encoded("AVIF").replace(b"ispe\0\0\0\0\0\0", b"ispe\0\0\0\0\xff\xff"), "image/avif"),
        (b"fLaC" + b"\xff" * 50, "audio/flac"),
        (b"x" * 70_000 + b"\xff", "text/plain"),
    ],
    ids=range(12),
)
def test_of_a_broken_file_the_rest_is_told(tmp_path: Path, content: bytes, kind: str) -> None:
    found = run(tmp_path, content)
    assert found["mediaType"] == kind
    assert found["problem"].endswith(".")


def test_a_broken_picture_whose_bytes_are_quoted_has_a_problem(tmp_path: Path) -> None:
    """libvips says that it doesn't know the property `\\xffrot`, which isn't UTF-8, as pyvips takes it to be."""
    content = encoded("AVIF", exif=exif().tobytes())
    assert b"irot" in content
    try:
        assert "broken" in run(tmp_path, content.replace(b"irot", b"\xffrot"))["problem"]
    finally:
        pyvips.vips_lib.vips_error_clear()  # pyvips failed before it did; a run has a process of its own


def test_of_an_empty_file_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        run(tmp_path, b"")


def test_no_prefix_of_a_file_makes_it_fail(tmp_path: Path) -> None:
    """Any of them would be an internal error, and tried again."""
    text = PngInfo()
    text.add_text("Comment", "grist", zip=True)
    wholes = [
        encoded(exif=exif()),
        encoded("PNG", pnginfo=text, exif=exif()),
        encoded("GIF"),
        encoded("TIFF", exif=exif()),
    ]
    wholes += [pdf(1), wav()[:200], flac()[:300], movie(wide=True)]
    for whole in wholes:
        for cut in {*range(1, min(len(whole), 60)), *range(60, len(whole), 37)}:
            assert run(tmp_path, whole[:cut], location=True)["mediaType"]
