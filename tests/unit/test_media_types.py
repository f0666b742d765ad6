"""What `extract-metadata` takes files for."""

import bz2
import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.encodings import ENCODE
from tests.support.files import encoded
from tests.unit.test_extract_metadata import run


@pytest.mark.parametrize(
    ("content", "kind", "facts"),
    [
        (b"grist\nmill", "text/plain", {"encoding": "ascii", "lines": 2, "characters": 10}),
        ("Füße\n".encode(), "text/plain", {"encoding": "utf-8", "lines": 1, "characters": 5}),
        ("Füße\n".encode("latin-1"), "text/plain", {"encoding": "iso-8859-1", "lines": 1, "characters": 5}),
        ("Füße\n".encode("utf-16"), "text/plain", {"encoding": "utf-16", "lines": 1, "characters": 5}),
        ("Füße\n".encode("utf-32"), "text/plain", {"encoding": "utf-32", "lines": 1, "characters": 5}),
        # The first part that is looked at ends inside the ü.
        (
            b"x" * 65_535 + "ü\n".encode(),
            "text/plain",
            {"encoding": "utf-8", "lines": 1, "characters": 65_537},
        ),
        (b'{"a": [1]}', "application/json", {"encoding": "ascii", "lines": 1, "characters": 10}),
        (b"[" * 50_000, "text/plain", {"encoding": "ascii", "lines": 1, "characters": 50_000}),
        (b"\n<!DOCTYPE html><p>", "text/html", {"encoding": "ascii", "lines": 2, "characters": 19}),
        (b'<?xml version="1.0"?><a/>', "application/xml", {"encoding": "ascii", "lines": 1, "characters": 25}),
        (b'<?xml version="1.0"?><svg/>', "image/svg+xml", {"encoding": "ascii", "lines": 1, "characters": 27}),
    ],
    ids=range(11),
)
def test_texts_tell_their_encoding_and_lines(tmp_path: Path, content: bytes, kind: str, facts: dict[str, Any]) -> None:
    found = run(tmp_path, content)
    assert (found["mediaType"], found["text"]) == (kind, facts)


def archive(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as writer:
        for name in names:
            writer.writestr(name, "application/epub+zip" if name == "mimetype" else "grist")
    return target.getvalue()


def tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as writer:
        writer.addfile(tarfile.TarInfo("grist"))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (archive("a.txt"), "application/zip"),
        (archive(), "application/zip"),
        (archive("mimetype", "a.html"), "application/epub+zip"),
        (archive("META-INF/MANIFEST.MF"), "application/java-archive"),
        (
            archive("[Content_Types].xml", "xl/workbook.xml"),
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        (tar(), "application/x-tar"),
        (gzip.compress(b"grist"), "application/gzip"),
        (bz2.compress(b"grist"), "application/x-bzip2"),
        (ENCODE["xz"](b"grist"), "application/x-xz"),
        (ENCODE["zstd"](b"grist"), "application/zstd"),
        (encoded("BMP"), "image/bmp"),
        (encoded("ICO"), "image/vnd.microsoft.icon"),
        (encoded("TIFF", big_tiff=True), "image/tiff"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
        (b"\x7fELF" + bytes(100), "application/x-elf"),
        (bytes(100), "application/octet-stream"),
    ],
    ids=range(16),
)
def test_the_media_type_is_told_by_content(tmp_path: Path, content: bytes, kind: str) -> None:
    """Whatever the client says that it is, since that is known already."""
    found = run(tmp_path, content, "image/png")
    assert found["mediaType"] == kind
    assert "problem" not in found
