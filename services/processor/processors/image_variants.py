"""`image-variants`: a picture in several sizes, and once in its own, in a format for the web.

The picture is decoded once. Its pixels, turned into sRGB, go to a temporary file that libvips reads through a moving
window, so memory stays far below the size of the decoded picture; every variant is made from there or from
a larger variant.
"""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

import pyvips
from pydantic import ConfigDict, Field, model_validator

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output, Params, Processor

MAX_PIXELS = 100_000_000
MAX_SIDE = 65_500
DEFAULT_WIDTHS = (320, 800, 1600)

_LOADERS = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")
_FORMAT_MAX_SIDE = {"webp": 16_383, "avif": 16_384, "jpeg": 65_500, "png": MAX_SIDE}
# libvips has no error of its own for this; these are its words, and those of the libraries below it.
_OUT_OF_MEMORY = re.compile(r"\bmemory\b|\ballocat|\bmmap\b|unable to encode \(1\)", re.IGNORECASE)
# WebP's effort 2 is 1.4 to 1.8 times as fast as the default 4, for 1 to 6 % more bytes; AVIF's grows far faster.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "webp": {"effort": 2},
    "avif": {"compression": "av1", "effort": 2},
    "jpeg": {"optimize_coding": True, "background": [255, 255, 255]},
    "png": {"compression": 6},
}

Width = Annotated[int, Field(ge=16, le=8192)]
_SIDE = "(1[6-9]|[2-9][0-9]|[1-9][0-9]{2}|[1-7][0-9]{3}|80[0-9]{2}|81[0-8][0-9]|819[0-2])"  # 16 to 8192, as Width
Size = Annotated[str, Field(pattern=f"^{_SIDE}x{_SIDE}$", description="`WxH`, each 16 to 8192")]


class ImageVariantsParams(Params):
    # In the schema too, so that front can refuse it before anything is kept.
    model_config = ConfigDict(json_schema_extra={"not": {"required": ["widths", "sizes"]}})

    widths: list[Width] = Field(
        list(DEFAULT_WIDTHS), min_length=1, max_length=8, description="Widths in pixels; never enlarged."
    )
    sizes: list[Size] = Field(
        default_factory=list, min_length=1, max_length=8, description="Boxes `WxH` in pixels, instead of widths."
    )
    fit: Literal["inside", "cover"] = Field(
        "inside", description="Whether a picture is to lie inside its box, or cover it and be cropped to it."
    )
    format: Literal["webp", "avif", "jpeg", "png"] = Field("webp", description="The format of the outputs.")
    quality: int = Field(80, ge=1, le=100, description="How much of the detail is kept; png keeps all of it.")

    @model_validator(mode="after")
    def _one_kind_of_size(self) -> Self:
        if {"widths", "sizes"} <= self.model_fields_set:
            raise ValueError("Give widths or sizes, not both.")
        return self


class ImageVariants(Processor[ImageVariantsParams]):
    """N widths or sizes give N + 1 pictures, in the order asked for; the last has the original size.

    EXIF orientation is applied, colours are sRGB, and no metadata is left. Of several frames or pages, the first.
    """

    name = "image-variants"
    version = "1.0.0"
    summary = "A picture in several sizes, as WebP, AVIF, JPEG or PNG, without its metadata."
    # Of HEIF only AVIF: the libvips that is installed with us has no HEVC decoder, so HEIC would always fail.
    media_types = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff", "image/avif")
    params_model = ImageVariantsParams

    def process(self, file: InputFile, params: ImageVariantsParams, context: Context) -> Sequence[Output]:
        _restrict_libvips()
        try:
            return _variants(_read(file, params.format), file.name, params, context)
        except pyvips.Error as error:
            if _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError from error
            raise


def _restrict_libvips() -> None:
    """Only the loaders of the formats we promise, one thread (a slot is one core), and no cache: each run is one."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in _LOADERS:
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)


def _read(file: InputFile, output_format: str) -> pyvips.Image:
    try:
        header = pyvips.Image.new_from_file(str(file.path), access="sequential", fail_on="error")
        _check_limits(header, output_format)
        return _decode(header)
    # libvips quotes what is in a broken file, and pyvips takes what libvips says for UTF-8.
    except (pyvips.Error, UnicodeDecodeError) as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise
        raise InvalidInput("The picture is broken, cut short, or of a kind that isn't read here.") from error


def _variants(picture: pyvips.Image, input_name: str, params: ImageVariantsParams, context: Context) -> list[Output]:
    def output(label: str, variant: pyvips.Image) -> Output:
        name = f"{_stem(input_name)}-{label}.{params.format}"
        path = context.new_file(name)
        _save(variant, str(path), params)
        return Output(name, f"image/{params.format}", path)

    # First, while nothing else is in memory: its encoder needs the most by far.
    original = output("original", picture)
    boxes = _boxes(params, picture.width, picture.height)
    variants = _resize_all(picture, [box for _, box in boxes], cover=bool(params.sizes) and params.fit == "cover")
    labels = _unique([label for label, _ in boxes])
    return [*(output(label, variant) for label, variant in zip(labels, variants, strict=True)), original]


def _check_limits(header: pyvips.Image, output_format: str) -> None:
    """Nothing but the header has been read so far, so a bomb costs no more than this."""
    pixels = header.width * header.height
    if pixels > MAX_PIXELS or max(header.width, header.height) > MAX_SIDE:
        raise LimitExceeded(
            f"The picture is {header.width} x {header.height} pixels; "
            f"at most {MAX_PIXELS:,} pixels and {MAX_SIDE:,} on a side are taken."
        )
    largest = _FORMAT_MAX_SIDE[output_format]
    if max(header.width, header.height) > largest:
        raise LimitExceeded(
            f"The picture is {header.width} x {header.height} pixels; "
            f"{output_format} holds at most {largest:,} on a side. Ask for jpeg or png."
        )


def _decode(image: pyvips.Image) -> pyvips.Image:
    """The pixels in sRGB, 8 bits a channel, upright, decoded once and read through a window from then on."""
    decoded = pyvips.Image.new_temp_file("%s.v")
    _to_srgb(image).write(decoded)
    return decoded.autorot()


def _to_srgb(image: pyvips.Image) -> pyvips.Image:
    # A CMYK picture without a profile of its own gets libvips' built-in one.
    fallback = "cmyk" if image.interpretation == "cmyk" else "srgb"
    if image.get_typeof("icc-profile-data") or fallback == "cmyk":
        try:
            image = image.icc_transform("srgb", embedded=True, input_profile=fallback, depth=8)
        except pyvips.Error:
            if fallback == "cmyk":
                raise
            # A profile that can't be read, or isn't for this kind of pixels: viewers ignore it, too.
    return image.colourspace("srgb").cast("uchar")


def _boxes(params: ImageVariantsParams, width: int, height: int) -> list[tuple[str, tuple[int, int]]]:
    """Each variant's label, and the box it is to fill: width and height in pixels, none larger than the picture."""
    if not params.sizes:
        return [(str(wanted), _scaled(width, height, min(1.0, wanted / width))) for wanted in params.widths]
    boxes = []
    for size in params.sizes:
        box_width, box_height = (int(side) for side in size.split("x"))
        if params.fit == "inside":
            box = _scaled(width, height, min(1.0, box_width / width, box_height / height))
        else:
            # A box that the picture can't cover shrinks in its own proportions until it can.
            box = _scaled(box_width, box_height, min(1.0, width / box_width, height / box_height))
        boxes.append((size, box))
    return boxes


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resize_all(picture: pyvips.Image, boxes: list[tuple[int, int]], *, cover: bool) -> list[pyvips.Image]:
    """The picture in each box, in the order of the boxes. Made from the largest down, each from the smallest
    that is at least twice its size: below that, the second resampling would be seen."""
    made: dict[tuple[int, int], pyvips.Image] = {}
    for box in sorted(set(boxes), key=lambda box: box[0] * box[1], reverse=True):
        if box == (picture.width, picture.height):
            made[box] = picture
            continue
        # A crop isn't the whole picture any more, so nothing else is made from it.
        sources = [] if cover else [made[size] for size in made if size[0] >= 2 * box[0] and size[1] >= 2 * box[1]]
        source = min(sources, key=lambda image: image.width, default=picture)
        made[box] = source.thumbnail_image(
            box[0], height=box[1], size="both" if cover else "force", crop="centre" if cover else "none"
        ).copy_memory()
    return [made[box] for box in boxes]


def _save(image: pyvips.Image, path: str, params: ImageVariantsParams) -> None:
    options = dict(_SAVE_OPTIONS[params.format], keep="none")
    if params.format != "png":
        options["Q"] = params.quality
    {
        "webp": image.webpsave,
        "avif": image.heifsave,
        "jpeg": image.jpegsave,
        "png": image.pngsave,
    }[params.format](path, **options)


def _stem(name: str) -> str:
    """The input's name without its suffix, as far as it is safe in any file system and in a header."""
    stem = re.sub(r"[^\w.-]+", "-", PurePath(name.replace("\\", "/")).stem).strip("-.")
    return stem[:80] or "picture"


def _unique(labels: list[str]) -> list[str]:
    """A label that comes again gets a number: `320`, `320-2`."""
    seen: dict[str, int] = {}
    result = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        result.append(label if seen[label] == 1 else f"{label}-{seen[label]}")
    return result
