"""`pdf`: the information in a PDF, its text, and pictures of its pages.

PDFium reads the file from the disk as it needs it, and pages are opened and closed one by one, so memory is that of the
largest page. Forms show what was filled in; scripts are never run.
"""

import ctypes
import json
import math
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Literal, Self

import pypdfium2
import pypdfium2.raw as pdfium
import pyvips
from pydantic import ConfigDict, Field, model_validator

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output, Params, Processor
from gristmill.texts import plain_text

Kind = Literal["info", "text", "pictures"]

MAX_PAGES = 2_000
MAX_PICTURES = 200
MAX_PIXELS = 100_000_000
MAX_TEXT_BYTES = 20 * 2**20  # a book of 2,000 pages has about 6
POINTS_PER_INCH = 72
_MM_PER_INCH = 25.4
_FORMAT_MAX_SIDE = {"png": 65_500, "jpeg": 65_500, "webp": 16_383}
_RANGE = "[1-9][0-9]{0,5}(-([1-9][0-9]{0,5})?)?"
_FACTS = {
    "Title": "title",
    "Author": "author",
    "Subject": "subject",
    "Keywords": "keywords",
    "Creator": "creator",
    "Producer": "producer",
    "CreationDate": "created",
    "ModDate": "modified",
}
# ISO 32000-2, 7.9.4. All but the year may be missing.
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?'?)?")
# PDFium marks a hyphen that only a line's end called for; pdftotext leaves it out as well.
_CLEANED = {n: None for n in range(32) if chr(n) not in "\t\n"} | {0xFFFE: None, 0xFFFF: None, 0x7F: None}
_HEAD_BYTES = 1024
_TAIL_BYTES = 4096


class PdfParams(Params):
    # In the schema too, so that front can refuse it before anything is kept.
    model_config = ConfigDict(json_schema_extra={"not": {"required": ["dpi", "width"]}})

    outputs: list[Kind] = Field(
        ["info", "text"],
        min_length=1,
        max_length=3,
        json_schema_extra={"uniqueItems": True},
        description="What to make: `info.json`, `text.txt`, a picture of each page; in this order.",
    )
    pages: str = Field(
        default_factory=str,
        max_length=200,
        pattern=f"^{_RANGE}(,{_RANGE})*$",
        description="Pages and ranges such as `1-3,7,20-`: which to read; by default all of them.",
    )
    dpi: int = Field(150, ge=10, le=1200, description="How large pictures are: pixels for each inch of the page.")
    # Without a default in the schema: there is none.
    width: int = Field(default_factory=int, ge=16, le=8192, description="Width of each picture in pixels, not dpi.")
    format: Literal["png", "jpeg", "webp"] = Field("png", description="The format of pictures.")
    quality: int = Field(80, ge=1, le=100, description="How much of the detail is kept; png keeps all of it.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if {"dpi", "width"} <= self.model_fields_set:
            raise ValueError("Give dpi or width, not both.")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError("Name each of the outputs once.")
        return self


class Pdf(Processor[PdfParams]):
    """Gives what `outputs` names, in that order: `info.json`, `text.txt`, `page-001.png` and so on.

    The text is UTF-8, with a form feed behind each page, as pdftotext has it. Sizes of pages are in points, turned as
    they are shown. There is no parameter for a password: it would be kept in the job's record.
    """

    name = "pdf"
    version = "1.0.0"
    summary = "The information in a PDF, its text, and pictures of its pages."
    media_types = ("application/pdf",)
    params_model = PdfParams

    def process(self, file: InputFile, params: PdfParams, context: Context) -> Sequence[Output]:
        pyvips.concurrency_set(1)
        with _opened(file.path) as document:
            # Before any page is read, as PDFium wants it.
            document.init_forms()
            pages = _chosen(params, len(document))
            made: dict[Kind, list[Output]] = {kind: [] for kind in params.outputs}
            if "info" in made:
                made["info"].append(_info(document, pages, context))
            if "text" in made or "pictures" in made:
                _walk(document, pages, params, context, made)
        return [output for kind in params.outputs for output in made[kind]]


def _opened(path: Path) -> pypdfium2.PdfDocument:
    """The document. Raises `InvalidInput`."""
    with path.open("rb") as source:
        head = source.read(_HEAD_BYTES)
        source.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = source.read(_TAIL_BYTES)
    if b"%PDF-" not in head:
        raise InvalidInput("The file isn't a PDF.")
    # PDFium would make do with the pages that are there, and nobody would know.
    if b"startxref" not in tail:
        raise InvalidInput("The PDF is cut short: its end is missing.")
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise InvalidInput("The PDF is protected by a password. Save it without one, and send it again.") from error
        if error.err_code == pdfium.FPDF_ERR_SECURITY:
            raise InvalidInput("The PDF is encrypted in a way that isn't read here.") from error
        raise InvalidInput("The PDF is broken.") from error
    if not len(document):
        document.close()
        raise InvalidInput("The PDF is broken: it has no pages.")
    return document


def _chosen(params: PdfParams, count: int) -> list[int]:
    """The pages that are asked for, from 0 on, each once. Nothing but their number has been read so far."""
    ranges = []
    for part in params.pages.split(",") if params.pages else ["1-"]:
        first, dash, last = part.partition("-")
        pages = range(int(first) - 1, (int(last) if last else count) if dash else int(first))
        if not pages or pages[-1] >= count:
            raise InvalidInput(f"There are no pages {part}: the PDF has {count:,}.")
        ranges.append(pages)
    asked = sum(map(len, ranges))
    most = MAX_PICTURES if "pictures" in params.outputs else MAX_PAGES
    if asked > most:
        what = "pictures are made of" if "pictures" in params.outputs else "text and sizes are read of"
        raise LimitExceeded(
            f"These are {asked:,} pages of a PDF; {what} at most {most:,} at once. Choose some with `pages`."
        )
    return sorted({page for pages in ranges for page in pages})


def _info(document: pypdfium2.PdfDocument, pages: list[int], context: Context) -> Output:
    version = document.get_version()
    texts = {name: plain_text(_metadata(document, key)) for key, name in _FACTS.items()}
    facts: dict[str, Any] = {
        "pages": len(document),
        "version": f"{version // 10}.{version % 10}" if version else None,
        "encrypted": pdfium.FPDF_GetSecurityHandlerRevision(document) >= 0,
        "tagged": bool(document.is_tagged()),
        "form": document.get_formtype() != pdfium.FORMTYPE_NONE,
        **{name: _date(text) if name in ("created", "modified") else text for name, text in texts.items() if text},
        "sizes": [
            {"page": page + 1, "width": round(width, 2), "height": round(height, 2)}
            for page in pages
            for width, height in [_size(document, page)]
        ],
    }
    path = context.new_file("info.json")
    path.write_text(json.dumps(facts))
    return Output("info.json", "application/json", path)


def _metadata(document: pypdfium2.PdfDocument, key: str) -> str:
    # pypdfium2's own function fails where half of a character is missing.
    size = pdfium.FPDF_GetMetaText(document, key.encode(), None, 0)
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDF_GetMetaText(document, key.encode(), buffer, size)
    return buffer.raw.decode("utf-16-le", "ignore").rstrip("\0")


def _date(text: str) -> str:
    """A PDF's date as RFC 3339 has it, as far as it goes; as it is, if it isn't one."""
    match = _DATE.fullmatch(text)
    if match is None:
        return text
    year, month, day, hour, minute, second, utc, sign, hours, minutes = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if hour is None:
        return date
    zone = "Z" if utc else f"{sign}{hours}:{minutes or '00'}" if sign else ""
    return f"{date}T{hour}:{minute or '00'}:{second or '00'}{zone}"


def _walk(
    document: pypdfium2.PdfDocument,
    pages: list[int],
    params: PdfParams,
    context: Context,
    made: dict[Kind, list[Output]],
) -> None:
    """Text and pictures, page by page."""
    if "pictures" in made:
        # All of them before the first one is drawn: a limit is met at once, or not at all.
        scales = [_scale(page, *_size(document, page), params) for page in pages]
    text = context.new_file("text.txt")
    with text.open("wb") as target:
        for n, number in enumerate(pages):
            try:
                with closing(document.get_page(number)) as page:
                    if "text" in made:
                        _write_text(page, target)
                    if "pictures" in made:
                        name = f"page-{number + 1:03}.{params.format}"
                        path = context.new_file(name)
                        _draw(page, scales[n], path, params)
                        made["pictures"].append(Output(name, f"image/{params.format}", path))
            except pypdfium2.PdfiumError as error:
                raise InvalidInput(f"Page {number + 1} of the PDF is broken.") from error
            context.progress((n + 1) / len(pages))
    if "text" in made:
        made["text"].append(Output("text.txt", "text/plain", text))


def _write_text(page: pypdfium2.PdfPage, target: IO[bytes]) -> None:
    with closing(page.get_textpage()) as found:
        text = found.get_text_range().replace("\r\n", "\n").translate(_CLEANED)
    target.write(f"{text}\n\f".encode() if text else b"\f")
    if target.tell() > MAX_TEXT_BYTES:
        raise LimitExceeded(f"The text is longer than {MAX_TEXT_BYTES:,} bytes. Choose some pages with `pages`.")


def _size(document: pypdfium2.PdfDocument, page: int) -> tuple[float, float]:
    """Width and height in points, as the page is shown."""
    try:
        width, height = document.get_page_size(page)
    except pypdfium2.PdfiumError as error:
        raise InvalidInput(f"Page {page + 1} of the PDF is broken.") from error
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise InvalidInput(f"Page {page + 1} of the PDF is broken: it has no size.")
    return width, height


def _scale(page: int, width: float, height: float, params: PdfParams) -> float:
    """Pixels for each point. Raises `LimitExceeded` for a page that would be too large a picture."""
    # A little less, since it is rounded up: 792 points at 150 dpi would be 1650.0000000000002 pixels.
    scale = (params.width / width if params.width else params.dpi / POINTS_PER_INCH) * (1 - 1e-9)
    pixels_wide, pixels_high = math.ceil(width * scale), math.ceil(height * scale)
    side = _FORMAT_MAX_SIDE[params.format]
    if pixels_wide * pixels_high > MAX_PIXELS or max(pixels_wide, pixels_high) > side:
        raise LimitExceeded(
            f"Page {page + 1} would be {pixels_wide:,} x {pixels_high:,} pixels; at most {MAX_PIXELS:,} pixels and "
            f"{side:,} on a side are drawn as {params.format}. Ask for a smaller dpi or width."
        )
    return scale


def _draw(page: pypdfium2.PdfPage, scale: float, path: Path, params: PdfParams) -> None:
    with closing(page.render(scale=scale, rev_byteorder=True, limit_image_cache=True)) as bitmap:
        picture = pyvips.Image.new_from_memory(bitmap.buffer, bitmap.width, bitmap.height, bitmap.n_channels, "uchar")
        per_mm = scale * POINTS_PER_INCH / _MM_PER_INCH
        picture = picture.copy(interpretation="srgb", xres=per_mm, yres=per_mm)
        if params.format == "png":
            picture.pngsave(str(path), compression=6)
        elif params.format == "jpeg":
            picture.jpegsave(str(path), Q=params.quality, optimize_coding=True)
        else:
            picture.webpsave(str(path), Q=params.quality, effort=2)
