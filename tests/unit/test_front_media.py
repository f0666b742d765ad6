"""Media types: what a client says of its bytes, whether a processor takes it, and whether the bytes can be that."""

import io

import pytest
from PIL import Image

from common.errors import UnsupportedMediaType
from gristmill.wire.processors import Encoding
from services.front.domain import media
from tests.fakes.encodings import ENCODE


@pytest.mark.parametrize(
    ("field", "bare"),
    [
        (None, "application/octet-stream"),
        ("", "application/octet-stream"),
        ("image/png", "image/png"),
        (" Image/PNG ; charset=x", "image/png"),
        ("application/vnd.oasis.opendocument.text+x", "application/vnd.oasis.opendocument.text+x"),
    ],
)
def test_a_content_type_is_read(field: str | None, bare: str) -> None:
    assert media.parse(field) == bare


NO_MEDIA_TYPES = [
    "image",
    "/",
    "image/",
    "image/png/x",
    "im age/png",
    "image/png\r\nX-Evil: 1",
    "image/png;\r\nX-Evil: 1",
    "image/p\x00ng",
    "ímage/png",
    "a" * 128 + "/b",
    "image/png, image/jpeg",
    "*/*",
]


@pytest.mark.parametrize("field", NO_MEDIA_TYPES)
def test_what_is_no_media_type_is_refused_and_never_stands_in_a_header(field: str) -> None:
    with pytest.raises(UnsupportedMediaType) as refusal:
        media.parse(field)
    assert refusal.value.detail == "The media type can't be read; it looks like `image/png`."
    assert media.safe(field) == "application/octet-stream"


@pytest.mark.parametrize(
    ("mimetype", "accepted", "verdict"),
    [
        ("image/png", ["image/png"], True),
        ("image/png", ["image/*"], True),
        ("image/png", ["*/*"], True),
        ("image/png", ["image/jpeg"], False),
        ("image/png", ["imag/*", "text/*"], False),
        ("image/png", [], False),
    ],
)
def test_a_processor_takes_what_it_lists(mimetype: str, accepted: list[str], verdict: bool) -> None:
    assert media.is_accepted(mimetype, accepted) is verdict


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "tiff", "avif", "pdf"])
def test_real_files_pass_for_what_they_are_and_for_nothing_else(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    head = file.getvalue()[: media.SNIFFED_BYTES]
    types = ["image/jpeg", "image/png", "image/gif", "image/webp", "image/tiff", "image/avif", "application/pdf"]
    own = "application/pdf" if kind == "pdf" else f"image/{kind}"
    media.check_signature(own, head)
    for other in types:
        if other != own:
            with pytest.raises(UnsupportedMediaType):
                media.check_signature(other, head)


@pytest.mark.parametrize(
    ("mimetype", "head"),
    [
        ("image/tiff", b"II+\0\x08\0\0\0"),  # BigTIFF
        ("image/tiff", b"MM\0*"),
        ("image/heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"),  # the structural brand, as some cameras write
        ("image/heif", b"\0\0\0\x18ftypheic"),
        ("image/avif", b"\0\0\0\x20ftypavis"),
        ("application/pdf", b"\n\n%PDF-1.4"),
        ("image/gif", b"GIF87a"),
        ("text/plain", b"\x89PNG\r\n\x1a\n"),  # has no signature, so nothing can be told
        ("application/octet-stream", b"\xff"),
    ],
)
def test_rarer_kinds_pass(mimetype: str, head: bytes) -> None:
    media.check_signature(mimetype, head)


@pytest.mark.parametrize(
    ("mimetype", "head"),
    [
        ("image/webp", b"RIFF\x24\0\0\0WAVEfmt "),
        ("image/webp", b"RIFF\x24\0\0\0AVI LIST"),
        ("image/avif", b"\0\0\0\x18ftypisom"),
        ("image/heic", b"\0\0\0\x18ftypqt  "),
        ("image/jpeg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("image/jpeg", b"\xff\xd8"),
        ("image/png", b"\x89PNG"),
        ("image/png", b""),
        ("application/pdf", b"<html>%PDF"),
    ],
)
def test_bytes_that_are_something_else_are_refused(mimetype: str, head: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        media.check_signature(mimetype, head)


@pytest.mark.parametrize(
    ("field", "encoding"),
    [(None, None), ("", None), ("identity", None), (" GZip ", "gzip"), ("x-gzip", "gzip"), ("zstd", "zstd")],
)
def test_a_content_encoding_is_read(field: str | None, encoding: str | None) -> None:
    assert media.parse_encoding(field) == encoding


@pytest.mark.parametrize("field", ["br", "deflate", "gzip, gzip", "gzip,", "*", "gzip;q=1", "g zip", "x-bzip2"])
def test_other_encodings_are_refused_with_those_that_are_known(field: str) -> None:
    with pytest.raises(UnsupportedMediaType) as refusal:
        media.parse_encoding(field)
    assert refusal.value.headers["Accept-Encoding"] == "gzip, bzip2, xz, zstd"


@pytest.mark.parametrize("encoding", ENCODE)
def test_bytes_are_held_against_their_encoding_and_not_against_what_they_encode(encoding: Encoding) -> None:
    content = ENCODE[encoding](b"This is no picture, but nobody can see that from here.")
    media.check_signature("image/png", content, encoding)
    for other in set(ENCODE) - {encoding}:
        with pytest.raises(UnsupportedMediaType):
            media.check_signature("image/png", content, other)


def test_a_zstd_file_may_begin_with_a_frame_to_be_skipped() -> None:
    for number in range(16):
        media.check_signature("text/plain", bytes([0x50 + number]) + b"\x2a\x4d\x18", "zstd")
