"""What a file is, by its first bytes: by its signature (`gristmill.signatures`), else by whether it is a text."""

import codecs
import json
import re

from gristmill.signatures import SIGNATURES

HEAD_BYTES = 64 * 1024
MAX_JSON_BYTES = 2**20
OCTET_STREAM = "application/octet-stream"

# What Office writes are ZIPs, told apart by the folders that are in them.
_OFFICE = {
    b"word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    b"xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    b"ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
# That of UTF-32 begins like that of UTF-16, and so comes first.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# What no text has in it; ESC is there for coloured logs.
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MARKUP = (
    (re.compile(r"<!doctype html|<html", re.IGNORECASE), "text/html"),
    (re.compile(r"(<\?xml|<!--|<!doctype svg).{0,4000}<svg|<svg", re.IGNORECASE | re.DOTALL), "image/svg+xml"),
    (re.compile(r"<\?xml"), "application/xml"),
)


def media_type(head: bytes) -> str:
    """The media type of a file that begins with `head`, of which `HEAD_BYTES` are enough."""
    for pattern, kind in SIGNATURES:
        if match := pattern.match(head):
            return match["named"].decode() if "named" in pattern.groupindex else _office(head, kind)
    encoding = text_encoding(head)
    return OCTET_STREAM if encoding is None else _text(head.decode(encoding, "replace").lstrip("\ufeff \t\r\n"), head)


def text_encoding(head: bytes) -> str | None:
    """How a text that begins with `head` is encoded, `iso-8859-1` standing for all of 8 bits that can't be told apart;
    None, if it isn't a text."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    if not head or _BINARY.search(head):
        return None
    try:
        # Where the head ends, a character may be cut in two.
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


def _office(head: bytes, kind: str) -> str:
    if kind == "application/zip" and b"[Content_Types].xml" in head:
        return next((office for folder, office in _OFFICE.items() if folder in head), kind)
    return kind


def _text(text: str, head: bytes) -> str:
    for pattern, kind in _MARKUP:
        if pattern.match(text):
            return kind
    if text[:1] in ("{", "[") and len(head) < HEAD_BYTES:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return "text/plain"
        return "application/json"
    return "text/plain"
