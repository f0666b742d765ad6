"""PDFs, written by hand (ISO 32000-2), so that they can be what no tool would write."""

import hashlib

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_ID = b"0123456789abcdef"
_FIRST_PAGE = 5


def pdf(
    pages: int = 1,
    *,
    box: str = "0 0 612 792",
    content: bytes | None = None,
    resources: bytes = b"",
    info: bytes = b"",
    password: str | None = None,
    more: tuple[bytes, ...] = (),
) -> bytes:
    """A PDF whose pages say `Page n of grist.` and have a red square, unless they have `content`.

    `info` and `resources` are the insides of dictionaries, `more` are objects behind all others. With a `password`,
    also an empty one, streams are encrypted (RC4, 40 bits); `info` is not, so give none then.
    """
    kids = b" ".join(b"%d 0 R" % (_FIRST_PAGE + 2 * n) for n in range(pages))
    resources = resources or b"/Font<</F1 3 0 R>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<<%s>>" % info,
    ]
    key, encryption = _encryption(password) if password is not None else (b"", b"")
    for n in range(pages):
        drawn = content or b"BT /F1 24 Tf 72 700 Td (Page %d of grist.) Tj ET 1 0 0 rg 100 100 200 200 re f" % (n + 1)
        number = _FIRST_PAGE + 2 * n + 1
        if key:
            own = hashlib.md5(key + number.to_bytes(3, "little") + bytes(2), usedforsecurity=False).digest()[:10]
            drawn = _rc4(own, drawn)
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Resources<<%s>>/Contents %d 0 R>>"
            % (box.encode(), resources, number),
            stream(drawn),
        ]
    return _written([*objects, *more], encryption)


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)


def _written(objects: list[bytes], trailer: bytes) -> bytes:
    body, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start, count = len(body), len(objects) + 1
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
    body += b"trailer<</Size %d/Root 1 0 R/Info 4 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (count, trailer, start)
    return bytes(body)


def _encryption(password: str) -> tuple[bytes, bytes]:
    """The file's key, and what the trailer says of it (7.6.4.3 and 7.6.4.4 for revision 2)."""
    user = (password.encode() + _PADDING)[:32]
    owner = _rc4(hashlib.md5((b"owner" + _PADDING)[:32], usedforsecurity=False).digest()[:5], user)
    permissions = -4
    seed = user + owner + permissions.to_bytes(4, "little", signed=True) + _ID
    key = hashlib.md5(seed, usedforsecurity=False).digest()[:5]
    values = (owner.hex().encode(), _rc4(key, _PADDING).hex().encode(), permissions, _ID.hex().encode())
    return key, b"/Encrypt<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P %d>>/ID[<%s><>]" % values


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    result, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        result.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(result)
