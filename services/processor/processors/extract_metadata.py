"""`extract-metadata`: what a file is, by its headers and metadata, without decoding its content.

Of pictures, PDFs, audio and video only headers are read, so it costs the same for a bomb as for any other file. A text
is read through once, to count its lines.
"""

import codecs
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pypdfium2
import pypdfium2.raw as pdfium
import pyvips
from pydantic import Field
from tinytag import TinyTag, TinyTagException

from gristmill import Context, InputFile, InvalidInput, Output, Params, Processor
from gristmill.texts import plain_text

# Siblings, as any plug-in may have them.
from .exif import read_exif, read_exif_block
from .media_types import HEAD_BYTES, media_type, text_encoding

Facts = dict[str, Any]

MAX_BOXES = 1000
_BOX_HEAD = 8
_CHUNK_BYTES = 1024 * 1024
_LOADERS = ("Jpeg", "Png", "Webp", "Nsgif", "Tiff", "Heif")
_PICTURES = ("jpeg", "png", "webp", "gif", "tiff", "avif", "heic", "heif")
_BITS = {"uchar": 8, "char": 8, "ushort": 16, "short": 16, "uint": 32, "int": 32, "float": 32, "double": 64}
_AUDIO = ("title", "artist", "album", "genre", "year", "track", "composer")
_AUDIO_NUMBERS = {
    "duration": "seconds",
    "channels": "channels",
    "samplerate": "sampleRate",
    "bitdepth": "bits",
    "bitrate": "kilobitsPerSecond",
}


class ExtractMetadataParams(Params):
    location: bool = Field(False, description="Whether to include where a picture was taken.")


class Broken(Exception):  # noqa: N818 - it is the file that is
    """The file isn't what its first bytes promise, or is cut short."""


class ExtractMetadata(Processor[ExtractMetadataParams]):
    """Gives `metadata.json`: `mediaType` by content, `size` in bytes, and what its kind of file has beyond that, under
    `image`, `exif`, `location`, `pdf`, `audio`, `video` or `text`. With `problem`, more couldn't be read.

    Numbers of EXIF are as the standard has them. Without `location` no tag of a place is read; what people wrote
    themselves, such as a description, is told as it is.
    """

    name = "extract-metadata"
    version = "1.0.0"
    summary = "What a file is: media type, dimensions, EXIF, pages, tags."
    media_types = ("*/*",)
    params_model = ExtractMetadataParams

    def process(self, file: InputFile, params: ExtractMetadataParams, context: Context) -> Sequence[Output]:
        with file.path.open("rb") as source:
            head = source.read(HEAD_BYTES)
        if not head:
            raise InvalidInput("The file is empty.")
        kind = media_type(head)
        facts: Facts = {"mediaType": kind, "size": file.size}
        try:
            facts |= _facts(kind, file.path, head, location=params.location)
        except Broken as error:
            facts["problem"] = str(error)
        path = context.new_file("metadata.json")
        path.write_text(json.dumps(facts, allow_nan=False))
        return [Output("metadata.json", "application/json", path)]


def _facts(kind: str, path: Path, head: bytes, *, location: bool) -> Facts:
    group, _, name = kind.partition("/")
    if group == "image" and name in _PICTURES:
        return _picture(path, location=location)
    if kind in _READERS:
        return _READERS[kind](path)
    if group == "audio":
        return _audio(path)
    if encoding := text_encoding(head):
        return _text(path, encoding)
    return {}


def _picture(path: Path, *, location: bool) -> Facts:
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in _LOADERS:
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    try:
        # Nothing but the header is read, since nobody asks for a pixel.
        picture = pyvips.Image.new_from_file(str(path), access="sequential")
    # libvips quotes what is in a broken file, and pyvips takes what libvips says for UTF-8.
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise Broken("The picture is broken, cut short, too large, or of a kind that isn't read here.") from error
    fields = picture.get_fields()

    def field(name: str) -> Any:
        return picture.get(name) if name in fields else None

    profile = field("icc-profile-data")
    image = {
        "width": picture.width,
        "height": field("page-height") or picture.height,
        "frames": field("n-pages") or 1,
        "bands": picture.bands,
        "bitsPerSample": field("bits-per-sample") or _BITS.get(picture.format),
        "colourSpace": picture.interpretation,
        "alpha": bool(picture.hasalpha()),
        "orientation": field("orientation"),
        "iccProfile": _profile_name(bytes(profile)) if profile else None,
    }
    if block := field("exif-data"):
        exif, place = read_exif_block(bytes(block), location=location)
    elif field("vips-loader") == "tiffload":
        with path.open("rb") as source:
            exif, place = read_exif(source, location=location)
    else:
        exif, place = {}, {}
    facts = {"image": {name: value for name, value in image.items() if value is not None}}
    return facts | ({"exif": exif} if exif else {}) | ({"location": place} if place else {})


def _profile_name(profile: bytes) -> str | None:
    """The description in an ICC profile (ICC.1:2022, 9.2.41; version 2 has it in ASCII)."""
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        for n in range(min(count, 100)):
            tag, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * n)
            if tag != b"desc":
                continue
            text = profile[offset : offset + min(size, 4096)]
            if text[:4] == b"mluc":
                length, start = struct.unpack_from(">II", text, 20)
                return plain_text(text[start : start + length].decode("utf-16-be", "ignore").rstrip("\0"))
            (length,) = struct.unpack_from(">I", text, 8)
            return plain_text(text[12 : 12 + length].decode("latin-1").rstrip("\0"))
    except struct.error:
        pass
    return None


def _pdf(path: Path) -> Facts:
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            return {"pdf": {"encrypted": True}, "problem": "The PDF is protected by a password."}
        raise Broken("The PDF is broken or cut short.") from error
    with document:
        facts = {"pages": len(document), "encrypted": pdfium.FPDF_GetSecurityHandlerRevision(document) >= 0}
        for key in ("Title", "Author"):
            try:
                text = plain_text(document.get_metadata_value(key))
            except UnicodeDecodeError:
                continue
            if text:
                facts[key.lower()] = text
    return {"pdf": facts}


def _audio(path: Path) -> Facts:
    """Tags, and numbers as far as the headers have them."""
    try:
        with path.open("rb") as source:
            found = TinyTag.get(file_obj=source)
    except (TinyTagException, struct.error, ValueError, OverflowError, IndexError, KeyError, TypeError) as error:
        raise Broken("The recording is broken, cut short, or of a kind that isn't read here.") from error
    facts: Facts = {}
    for name, shown in _AUDIO_NUMBERS.items():
        number = getattr(found, name)
        if isinstance(number, int | float) and 0 < number < 1e12:
            facts[shown] = round(number, 3)
    if not facts:
        raise Broken("The recording is broken, or cut short.")
    for name in _AUDIO:
        if (value := getattr(found, name)) and (text := plain_text(str(value))):
            facts[name] = text
    return {"audio": facts}


def _video(path: Path) -> Facts:
    """Of MP4 and its kin (ISO/IEC 14496-12): seconds, and width and height of the largest track."""
    facts: Facts = {}
    sizes = []
    with path.open("rb") as source:
        for kind, body in _headers(source):
            wide = body[:1] == b"\1"  # times of 8 bytes instead of 4
            try:
                if kind == b"mvhd":
                    scale, duration = struct.unpack_from(">IQ" if wide else ">II", body, 20 if wide else 12)
                    if scale and duration < 1 << 31 + 32 * wide:
                        facts["seconds"] = round(duration / scale, 3)
                else:
                    width, height = struct.unpack_from(">II", body, 88 if wide else 76)
                    sizes.append((width >> 16, height >> 16))
            except struct.error as error:
                raise Broken("The video is cut short.") from error
    if not facts and not sizes:
        raise Broken("The video is broken or cut short: what describes it is missing.")
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return {"video": facts | ({"width": width, "height": height} if width and height else {})}


def _headers(source: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The boxes `mvhd` and `tkhd`, wherever they are in the file."""
    start, end = 0, source.seek(0, os.SEEK_END)
    for _ in range(MAX_BOXES):
        if start >= end:
            return
        source.seek(start)
        head = source.read(16)
        if len(head) < _BOX_HEAD:
            return
        size, kind = struct.unpack_from(">I4s", head)
        if size == 1 and len(head) == 2 * _BOX_HEAD:
            (size,) = struct.unpack_from(">Q", head, _BOX_HEAD)
        if kind in (b"moov", b"trak"):
            start += _BOX_HEAD  # and into it
            continue
        if kind in (b"mvhd", b"tkhd"):
            source.seek(start + _BOX_HEAD)
            yield kind, source.read(min(size, 128) - _BOX_HEAD) if size > _BOX_HEAD else b""
        if size < _BOX_HEAD:
            return
        start += size


def _text(path: Path, encoding: str) -> Facts:
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = characters = 0
    ascii_only, last = True, ""
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise Broken(f"It begins as a text in {encoding}, and doesn't go on as one.") from error
            ascii_only = ascii_only and chunk.isascii()
            lines += text.count("\n")
            characters += len(text)
            last = text[-1:] or last
    shown = "ascii" if encoding == "utf-8" and ascii_only else encoding
    return {"text": {"encoding": shown, "lines": lines + (last != "\n"), "characters": characters}}


_READERS: Mapping[str, Callable[[Path], Facts]] = {
    "application/pdf": _pdf,
    "video/mp4": _video,
    "video/quicktime": _video,
    "video/3gpp": _video,
}
