"""`image-variants`: its outputs are opened with another library, Pillow, and measured."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms
from pydantic import ValidationError

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output
from services.processor.processors.image_variants import ImageVariants, ImageVariantsParams
from tests.support.files import png_header

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's private folder, which is where libvips puts its temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def run(folder: Path, content: bytes, name: str = "photo.jpg", **params: Any) -> list[Output]:
    path = folder / "input"
    path.write_bytes(content)
    file = InputFile(path, name, "image/jpeg", len(content))
    return list(ImageVariants().process(file, ImageVariantsParams.model_validate(params), Context(folder)))


def sizes(outputs: list[Output]) -> list[tuple[int, int]]:
    return [opened(output).size for output in outputs]


def opened(output: Output) -> Image.Image:
    with Image.open(output.path) as image:
        assert Image.MIME[str(image.format)] == output.mimetype
        image.load()
        return image


def photo(width: int = 2000, height: int = 1000) -> Image.Image:
    """Gradients and noise, as in a photograph."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).normal(0, 10, (height, width))
    bands = [x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)]
    pixels = np.stack([(band + noise).clip(0, 255) for band in bands], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def quarters() -> Image.Image:
    """200 x 100: red, green above; blue, white below."""
    image = Image.new("RGB", (200, 100))
    for n, colour in enumerate([RED, GREEN, BLUE, WHITE]):
        image.paste(colour, (n % 2 * 100, n // 2 * 50, n % 2 * 100 + 100, n // 2 * 50 + 50))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def near(pixel: Any, colour: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(have - want) <= tolerance for have, want in zip(pixel, colour, strict=True))


def test_gives_three_widths_and_the_original_by_default(folder: Path) -> None:
    outputs = run(folder, encoded(photo(), "JPEG", quality=90), name="My holiday.jpeg")
    assert [output.name for output in outputs] == [
        "My-holiday-320.webp",
        "My-holiday-800.webp",
        "My-holiday-1600.webp",
        "My-holiday-original.webp",
    ]
    assert sizes(outputs) == [(320, 160), (800, 400), (1600, 800), (2000, 1000)]


def test_variants_show_the_same_picture(folder: Path) -> None:
    source = photo()
    for output in run(folder, encoded(source), widths=[1500, 700, 20], quality=90):
        variant = opened(output).convert("RGB")
        expected = source.resize(variant.size, Image.Resampling.LANCZOS)
        difference = np.asarray(variant, dtype=float) - np.asarray(expected, dtype=float)
        assert np.abs(difference).mean() < 6


def test_never_enlarges_and_keeps_the_order_asked_for(folder: Path) -> None:
    outputs = run(folder, encoded(photo(500, 250)), widths=[1600, 100, 100])
    assert [output.name for output in outputs] == [
        "photo-1600.webp",
        "photo-100.webp",
        "photo-100-2.webp",
        "photo-original.webp",
    ]
    assert sizes(outputs) == [(500, 250), (100, 50), (100, 50), (500, 250)]


@pytest.mark.parametrize(
    ("output_format", "pillow"), [("webp", "WEBP"), ("jpeg", "JPEG"), ("png", "PNG"), ("avif", "AVIF")]
)
def test_every_output_format(folder: Path, output_format: str, pillow: str) -> None:
    outputs = run(folder, encoded(quarters()), widths=[100], format=output_format)
    assert [opened(output).format for output in outputs] == [pillow, pillow]
    assert sizes(outputs) == [(100, 50), (200, 100)]
    assert near(opened(outputs[1]).convert("RGB").getpixel((50, 25)), RED)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_every_input_format(folder: Path, kind: str) -> None:
    outputs = run(folder, encoded(quarters(), kind), widths=[100], format="png")
    assert sizes(outputs) == [(100, 50), (200, 100)]
    assert near(opened(outputs[0]).convert("RGB").getpixel((25, 12)), RED, 30)


def test_fit_inside_keeps_all_of_the_picture(folder: Path) -> None:
    outputs = run(folder, encoded(photo()), sizes=["300x300", "100x20", "5000x400"])
    assert [output.name for output in outputs][:2] == ["photo-300x300.webp", "photo-100x20.webp"]
    assert sizes(outputs) == [(300, 150), (40, 20), (800, 400), (2000, 1000)]


def test_cover_crops_exactly_and_from_the_middle(folder: Path) -> None:
    source = Image.new("RGB", (300, 100), GREEN)
    source.paste(RED, (100, 0, 200, 100))
    outputs = run(folder, encoded(source), sizes=["50x50", "99x33", "64x100"], fit="cover", format="png")
    assert sizes(outputs) == [(50, 50), (99, 33), (64, 100), (300, 100)]
    assert near(opened(outputs[0]).getpixel((25, 25)), RED)
    assert near(opened(outputs[0]).getpixel((4, 25)), RED)


def test_cover_of_a_small_picture_keeps_the_proportions_of_the_box(folder: Path) -> None:
    assert sizes(run(folder, encoded(quarters()), sizes=["1000x1000"], fit="cover")) == [(100, 100), (200, 100)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(quarters(), "JPEG", exif=exif, quality=95, subsampling=0)
    with Image.open(io.BytesIO(content)) as source:
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(source)
    for output in run(folder, content, widths=[60], format="png"):
        variant = opened(output)
        assert variant.width / variant.height == upright.width / upright.height
        for x, y in [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]:
            have = variant.getpixel((int(variant.width * x), int(variant.height * y)))
            assert near(have, upright.getpixel((int(upright.width * x), int(upright.height * y))))  # type: ignore[arg-type]  # of RGB


@pytest.mark.parametrize("output_format", ["webp", "avif", "jpeg", "png"])
def test_no_metadata_is_left(folder: Path, output_format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "where I live"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encoded(
        quarters(), "JPEG", exif=exif, icc_profile=profile, comment=b"where I live", xmp=b"<where I live>"
    )
    for output in run(folder, content, widths=[50], format=output_format):
        assert b"where I live" not in output.path.read_bytes()
        image = opened(output)
        assert not image.getexif()
        assert not {"icc_profile", "exif", "xmp", "comment"} & image.info.keys()


def test_colours_are_turned_into_srgb(folder: Path) -> None:
    # The same numbers mean another colour under a profile whose red and blue are exchanged.
    profile = _profile_with_exchanged_primaries()
    output = run(folder, encoded(Image.new("RGB", (40, 40), RED), icc_profile=profile), widths=[20], format="png")[0]
    assert near(opened(output).getpixel((10, 10)), BLUE, 40)


def test_a_broken_profile_is_ignored(folder: Path) -> None:
    output = run(folder, encoded(quarters(), icc_profile=b"not a profile"), widths=[100], format="png")[0]
    assert near(opened(output).getpixel((25, 12)), RED)


@pytest.mark.parametrize("kind", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_pixels(folder: Path, kind: str) -> None:
    grey = Image.fromarray((np.arange(200 * 100, dtype=np.uint16) * 3).reshape(100, 200)) if kind == "I;16" else None
    source = grey or quarters().convert(kind)
    assert sizes(run(folder, encoded(source), widths=[100])) == [(100, 50), (200, 100)]


def test_sixteen_bits_keep_their_brightness(folder: Path) -> None:
    source = Image.fromarray(np.full((40, 40), 0x8080, dtype=np.uint16))
    output = run(folder, encoded(source), widths=[20], format="png")[0]
    assert near(opened(output).convert("RGB").getpixel((10, 10)), (128, 128, 128), 4)


def test_cmyk(folder: Path) -> None:
    source = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    output = run(folder, encoded(source, "JPEG", quality=95), widths=[20], format="png")[0]
    red, green, blue = opened(output).getpixel((10, 10))  # type: ignore[misc]  # of RGB
    assert red > 180
    assert max(green, blue) < 80


def test_transparency_is_kept_or_becomes_white(folder: Path) -> None:
    source = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    source.paste((255, 0, 0, 255), (20, 0, 40, 40))
    kept = opened(run(folder, encoded(source), widths=[20], format="webp")[0])
    assert kept.getpixel((2, 10))[3] == 0  # type: ignore[index]  # of RGBA
    assert near(kept.getpixel((17, 10)), (255, 0, 0, 255))
    flat = opened(run(folder, encoded(source), widths=[20], format="jpeg")[0])
    assert near(flat.getpixel((2, 10)), WHITE)


def test_an_animation_gives_its_first_frame(folder: Path) -> None:
    frames = [Image.new("RGB", (60, 30), colour) for colour in (RED, GREEN, BLUE)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    outputs = run(folder, content, widths=[30], format="png")
    assert sizes(outputs) == [(30, 15), (60, 30)]
    assert near(opened(outputs[0]).convert("RGB").getpixel((15, 7)), RED)


def test_a_pixel_bomb_is_refused_by_its_header(folder: Path) -> None:
    # Only a header and a few bytes of data: decoding it would be another error.
    with pytest.raises(LimitExceeded, match="40000 x 40000"):
        run(folder, png_header(40_000, 40_000))
    with pytest.raises(LimitExceeded, match="65600 x 16"):
        run(folder, png_header(65_600, 16))


def test_a_side_that_the_format_cannot_hold_is_refused(folder: Path) -> None:
    with pytest.raises(LimitExceeded, match="webp holds at most 16,383"):
        run(folder, png_header(16_384, 16), format="webp")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_picture_is_invalid(folder: Path, kind: str, share: float) -> None:
    content = encoded(photo(640, 480), kind)
    with pytest.raises(InvalidInput):
        run(folder, content[: int(len(content) * share)])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture at all",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"P6 2 2 255\n" + bytes(12),
        b"1,2,3\n4,5,6\n",
    ],
)
def test_what_is_not_one_of_our_formats_is_invalid(folder: Path, content: bytes) -> None:
    with pytest.raises(InvalidInput) as refusal:
        run(folder, content)
    assert str(folder) not in str(refusal.value)


def test_a_broken_picture_whose_bytes_are_quoted_is_invalid(folder: Path) -> None:
    """libvips says that it doesn't know the property `\\xffrot`, which isn't UTF-8, as pyvips takes it to be."""
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    content = encoded(quarters(), "AVIF", exif=turned.tobytes())
    assert b"irot" in content
    try:
        with pytest.raises(InvalidInput):
            run(folder, content.replace(b"irot", b"\xffrot"))
    finally:
        pyvips.vips_lib.vips_error_clear()  # pyvips failed before it did; a run has a process of its own


def test_names_become_harmless(folder: Path) -> None:
    for name in ["../../etc/passwd.png", "C:\\pictures\\x.png", "a\r\nb\u202e.png", "." * 300, "", "ü" * 300 + ".jpg"]:
        for output in run(folder, encoded(quarters()), name=name, widths=[16]):
            assert len(output.name) <= 128
            assert not set(output.name) & set("/\\\r\n\u202e\0")
            assert output.path.parent == folder


@pytest.mark.parametrize(
    "params",
    [
        {"widths": []},
        {"widths": [100] * 9},
        {"widths": [15]},
        {"widths": [8193]},
        {"sizes": ["100"]},
        {"sizes": ["15x100"]},
        {"sizes": ["8193x100"]},
        {"sizes": []},
        {"widths": [100], "sizes": ["100x100"]},
        {"format": "bmp"},
        {"quality": 0},
        {"quality": 101},
        {"fit": "stretch"},
        {"width": 100},
    ],
)
def test_refuses_parameters_outside_their_bounds(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImageVariantsParams.model_validate(params)


def test_both_bounds_of_a_size_are_taken() -> None:
    assert ImageVariantsParams.model_validate({"sizes": ["16x8192", "8192x16"]}).sizes


def _profile_with_exchanged_primaries() -> bytes:
    """sRGB's own profile, with the tags of red and blue exchanged in its table."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ", 128), profile.index(b"bXYZ", 128)
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)
