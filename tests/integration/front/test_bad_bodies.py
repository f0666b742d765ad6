"""Bodies that can't become a job: each is refused with its own answer, and nothing of it is kept."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.platform import Platform, open_platform

MIB = 1024 * 1024
MAX_INPUT_BYTES, MAX_JSON_BYTES = 2 * MIB, MIB
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
BOUNDARY = "boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def running(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("bad-bodies"))
    async with open_platform(
        mongodb_uri, folder.name, folder, max_input_bytes=MAX_INPUT_BYTES, max_json_bytes=MAX_JSON_BYTES
    ) as platform:
        yield platform


@pytest.fixture
async def platform(running: Platform) -> AsyncIterator[Platform]:
    """Nothing is accepted in this module, so after each test nothing may be kept."""
    yield running
    assert (await running.blob.list()).items == []
    assert await running.core.jobs.jobs.count_documents({}) == 0
    assert await running.core.inline.inline.count_documents({}) == 0


def request(**changed: Any) -> dict[str, Any]:
    """A good JSON body, with some fields changed; one that is None is left out."""
    whole = {
        "encoding": "base64",
        "content": base64.b64encode(b"hello").decode(),
        "mimetype": "text/plain",
        "processor": "checksum",
        **changed,
    }
    return {name: value for name, value in whole.items() if value is not None}


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A form of (the headers' text, the content)."""
    delimiter = f"--{BOUNDARY}".encode()
    body = b"".join(delimiter + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    return body + delimiter + b"--\r\n" if end else body[:-2]


def field(name: str, value: str = "", more: str = "") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"{more}', value.encode()


FILE = field("file", "hello", '; filename="a.txt"\r\nContent-Type: text/plain')
PICTURE = (FILE[0].replace("text/plain", "image/png"), PNG)
CHECKSUM = field("processor", "checksum")


def check(answer: httpx.Response, status: int, slug: str, *pointers: str) -> None:
    """The refusal is a problem document of that type, which points at exactly these places."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"/problems/{slug}", status)
    assert problem["title"]
    assert problem["detail"]
    assert {fault["pointer"] for fault in problem.get("errors", [])} == set(pointers)
    assert all(fault["detail"] for fault in problem.get("errors", []))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"{",
        b'{"content": "aGVsbG8=",}',
        json.dumps(request(params={"x": float("nan")})).encode(),
        b'{"params": {"x": Infinity}}',
        b'{"params": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"params":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"name": "\xff\xfe"}',
        rb'{"name": "\ud800"}',
        json.dumps(request()).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(request()).encode(),
        json.dumps(request()).encode() + b"{}",
        b'{"params": {"x": ' + b"9" * 5000 + b"}}",
        b"{" + b'"x":1,' * 20_000,
    ],
    ids=[
        *("empty", "text", "cut", "comma", "nan", "infinity", "deep-list", "deep-object", "bad-utf-8"),
        *("half-a-pair", "utf-16", "bom", "two", "endless-integer", "large-and-cut"),
    ],
)
async def test_what_is_no_json_is_malformed(platform: Platform, body: bytes) -> None:
    check(await platform.client().post("/api/v1/job", content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"5", b"true"])
async def test_json_that_is_no_object_is_invalid(platform: Platform, body: bytes) -> None:
    check(await platform.client().post("/api/v1/job", content=body, headers=JSON), 422, "invalid", "")


OPERATOR = {"$gt": ""}


@pytest.mark.parametrize(
    ("changed", "pointers"),
    [
        ({"owner": "bob"}, ["/owner"]),
        ({"tenant": "umbrella", "tid": "umbrella", "sub": "bob"}, ["/tenant", "/tid", "/sub"]),
        ({"status": "EXECUTION_COMPLETED", "state": "STORED", "id": "x"}, ["/status", "/state", "/id"]),
        ({"_id": "x", "$set": {"owner": "bob"}}, ["/_id", "/$set"]),
        ({"content": OPERATOR}, ["/content"]),
        ({"mimetype": OPERATOR, "processor": OPERATOR}, ["/mimetype", "/processor"]),
        ({"name": OPERATOR}, ["/name"]),
        ({"MD5": OPERATOR}, ["/MD5"]),
        ({"md5": "0" * 32}, ["/md5"]),
        ({"params": OPERATOR}, ["/params/$gt"]),
        ({"params": {"algorithm": OPERATOR}}, ["/params/algorithm"]),
        ({"params": [1]}, ["/params"]),
        ({"params": {"algorithm": 1e999}}, ["/params"]),
        ({"params": {"algorithm": 2**70}}, ["/params"]),
        ({"params": {"a\x00b": 1}}, ["/params"]),
        ({"params": {"a": "x" * 70_000}}, ["/params"]),
        ({"encoding": "hex"}, ["/encoding"]),
        ({"content": None}, ["/content"]),
        ({"mimetype": None}, ["/mimetype"]),
        ({"mimetype": "x" * 256}, ["/mimetype"]),
        ({"processor": "no-such"}, ["/processor"]),
        ({"processor": "x" * 129}, ["/processor"]),
        ({"name": "x" * 256}, ["/name"]),
        ({"MD5": "0" * 31}, ["/MD5"]),
        ({"MD5": "zz" * 16}, ["/MD5"]),
        ({"content": ""}, ["/content"]),
        *(
            ({"content": content}, ["/content"])
            for content in ("aGVsbG8", "aGVs bG8=", "aGVsbG8=\n", "aGVsbG8-", "aGVsbG8_", "=aGVs", "aGVs=bG8", "äöü=")
        ),
    ],
    ids=str,
)
async def test_json_that_says_the_wrong_things_is_invalid(
    platform: Platform, changed: dict[str, Any], pointers: list[str]
) -> None:
    body = json.dumps(request(**changed)).replace("Infinity", "1e999")
    check(await platform.client().post("/api/v1/job", content=body, headers=JSON), 422, "invalid", *pointers)


async def test_a_wrong_md5_is_a_mismatch(platform: Platform) -> None:
    md5 = hashlib.md5(b"hell", usedforsecurity=False).hexdigest()
    check(await platform.client().post("/api/v1/job", json=request(MD5=md5)), 422, "digest-mismatch")


async def test_a_wrong_digest_is_a_mismatch(platform: Platform) -> None:
    digest = base64.b64encode(hashlib.sha256(b"hell").digest()).decode()
    answer = await platform.client().post(
        "/api/v1/job?processor=checksum",
        content=b"hello",
        headers={"Content-Type": "text/plain", "Content-Digest": f"sha-256=:{digest}:"},
    )
    check(answer, 422, "digest-mismatch")


async def test_a_digest_that_cannot_be_read_is_malformed(platform: Platform) -> None:
    headers = {"Content-Type": "text/plain", "Content-Digest": "sha-256=:nonsense:"}
    answer = await platform.client().post("/api/v1/job?processor=checksum", content=b"hello", headers=headers)
    check(answer, 400, "malformed")


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("processor=no-such", ["/processor"]),
        ("processor=" + "x" * 129, ["/processor"]),
        ("processor=checksum&algorithm=crc32", ["/params/algorithm"]),
        ("processor=checksum&algorithm=sha256&algorithm=md5", ["/params/algorithm"]),
        ("processor=checksum&owner=bob", ["/params/owner"]),
        ("processor=checksum&tenant=umbrella&status=STORED", ["/params/tenant", "/params/status"]),
        ("processor[$gt]=&processor=checksum", ["/params/processor[$gt]"]),
        ("processor=checksum&algorithm[$ne]=x", ["/params/algorithm[$ne]"]),
        ("processor=checksum&name=" + "x" * 256, ["/name"]),
        ("processor=checksum&name=" + "x" * 5000, ["/name"]),
        ("processor=checksum&algorithm=" + "x" * 1000, ["/params/algorithm"]),
        ("widths=0,320,x", ["/params/widths/0", "/params/widths/2"]),
        ("widths=--5", ["/params/widths/0"]),
        ("widths=" + ",".join(["320"] * 9), ["/params/widths"]),
        ("widths=320&sizes=32x32", ["/params"]),
        ("quality=nan&format=exe", ["/params/quality", "/params/format"]),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_query_that_says_the_wrong_things_is_invalid(
    platform: Platform, query: str, pointers: list[str]
) -> None:
    answer = await platform.client().post(f"/api/v1/job?{query}", content=PNG, headers={"Content-Type": "image/png"})
    check(answer, 422, "invalid", *pointers)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/plain", b"hello"),
        ("application/octet-stream", PNG),
        (None, PNG),
        ("image/svg+xml", b"<svg/>"),
        ("image/png", b"hello"),
        ("image/jpeg", PNG),
        ("image/webp", b"RIFF\x24\0\0\0WAVEfmt "),
        ("image", PNG),
        ("image/png/x", PNG),
        ("*/*", PNG),
    ],
)
async def test_media_types_that_are_not_taken_or_not_true(
    platform: Platform, content_type: str | None, content: bytes
) -> None:
    alice = platform.client()
    headers = {"Content-Type": content_type} if content_type else {}
    check(await alice.post("/api/v1/job", content=content, headers=headers), 415, "unsupported-media-type")
    encoded = base64.b64encode(content).decode()
    body = request(content=encoded, mimetype=content_type or "", processor="image-variants")
    check(await alice.post("/api/v1/job", json=body), 415, "unsupported-media-type")
    part = field("file", "", '; filename="a"' + (f"\r\nContent-Type: {content_type}" if content_type else ""))
    answer = await alice.post("/api/v1/job", content=form((part[0], content)), headers=FORM)
    check(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["application/json", FORM["Content-Type"]])
async def test_only_raw_files_may_be_encoded(platform: Platform, content_type: str) -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    answer = await platform.client().post("/api/v1/job", content=b"\x1f\x8b\x08", headers=headers)
    check(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "encodings", [["br"], ["deflate"], ["gzip, gzip"], ["gzip", "gzip"], ["identity, gzip"], ["*"], ["gzip;q=1"]]
)
async def test_an_encoding_that_is_not_known_is_refused_with_those_that_are(
    platform: Platform, encodings: list[str]
) -> None:
    headers = [("Content-Type", "text/plain"), *(("Content-Encoding", encoding) for encoding in encodings)]
    path = "/api/v1/job?processor=checksum"
    answer = await platform.client().post(path, content=b"\x1f\x8b\x08", headers=headers)
    check(answer, 415, "unsupported-media-type")
    assert answer.headers["accept-encoding"] == "gzip, bzip2, xz, zstd"


@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "xz", "zstd"])
async def test_bytes_that_cannot_be_of_their_encoding_are_refused(platform: Platform, encoding: str) -> None:
    headers = {"Content-Type": "text/plain", "Content-Encoding": encoding}
    path = "/api/v1/job?processor=checksum"
    for content in (b"hello, this is not what it says", b"h", bytes(10_000)):
        answer = await platform.client().post(path, content=content, headers=headers)
        check(answer, 415, "unsupported-media-type")


async def test_an_empty_file_is_invalid(platform: Platform) -> None:
    alice = platform.client()
    path, headers = "/api/v1/job?processor=checksum", {"Content-Type": "text/plain"}
    check(await alice.post(path, content=b"", headers=headers), 422, "invalid", "")
    check(await alice.post(path, content=pieces(b"", b""), headers=headers), 422, "invalid", "")
    empty = field("file", "", '; filename="a.txt"\r\nContent-Type: text/plain')
    check(await alice.post("/api/v1/job", content=form(CHECKSUM, empty), headers=FORM), 422, "invalid", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        form(CHECKSUM, FILE, end=False),
        form(CHECKSUM, end=False),
        form(CHECKSUM, FILE)[:-4],
        form(("X: y", b"no disposition"), FILE),
        form(('Content-Disposition: attachment; name="file"', b"x")),
        form(("Content-Disposition: form-data", b"no name")),
        form((field("file")[0] + "\r\nno colon", b"x")),
        form(*[field(f"f{n}") for n in range(200)], FILE),
        form((field("file")[0] + "\r\nX: " + "x" * 20_000, b"x")),
        b"\xff" * 5000,
    ],
    ids=[
        *("empty", "text", "no-end", "no-file-no-end", "cut", "no-disposition", "attachment", "no-name", "no-colon"),
        *("200-fields", "long-header", "bytes"),
    ],
)
async def test_a_form_that_cannot_be_read_is_malformed(platform: Platform, body: bytes) -> None:
    check(await platform.client().post("/api/v1/job", content=body, headers=FORM), 400, "malformed")


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 300, '; boundary="a\x7fb"'])
async def test_a_form_without_a_usable_boundary_is_malformed(platform: Platform, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    check(await platform.client().post("/api/v1/job", content=form(FILE), headers=headers), 400, "malformed")


@pytest.mark.parametrize(
    ("parts", "pointers"),
    [
        ([CHECKSUM], ["/file"]),
        ([PICTURE, CHECKSUM], ["/processor"]),
        ([CHECKSUM, FILE, FILE], ["/file"]),
        ([CHECKSUM, FILE, field("a/b~c")], ["/a~1b~0c"]),
        ([field("processor", "no-such"), FILE], ["/processor"]),
        ([CHECKSUM, field("algorithm", "crc32"), FILE], ["/params/algorithm"]),
        ([CHECKSUM, field("owner", "bob"), field("status", "STORED"), FILE], ["/params/owner", "/params/status"]),
        ([CHECKSUM, field("name", "x" * 256), FILE], ["/name"]),
        ([CHECKSUM, (FILE[0].replace("a.txt", "x" * 256), b"x")], ["/name"]),
        ([(CHECKSUM[0], b"\xff"), FILE], ["/processor"]),
    ],
    ids=lambda value: str(value)[-60:],
)
async def test_a_form_that_says_the_wrong_things_is_invalid(
    platform: Platform, parts: list[tuple[str, bytes]], pointers: list[str]
) -> None:
    answer = await platform.client().post("/api/v1/job", content=form(*parts), headers=FORM)
    check(answer, 422, "invalid", *pointers)


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    """A body whose length isn't declared."""
    for chunk in chunks:
        yield chunk


async def test_more_than_the_limit_is_too_large(platform: Platform) -> None:
    alice, path = platform.client(), "/api/v1/job?processor=checksum"
    text, zeros = {"Content-Type": "text/plain"}, bytes(MAX_INPUT_BYTES + 1)
    check(await alice.post(path, content=zeros, headers=text), 413, "too-large")
    check(await alice.post(path, content=pieces(zeros[:MIB], zeros[MIB:]), headers=text), 413, "too-large")
    check(await alice.post("/api/v1/job", content=form(CHECKSUM, (FILE[0], zeros)), headers=FORM), 413, "too-large")
    long = form(CHECKSUM, field("algorithm", "x" * 70_000), FILE)
    check(await alice.post("/api/v1/job", content=long, headers=FORM), 413, "too-large")

    encoded = base64.b64encode(bytes(MAX_JSON_BYTES + 1)).decode()
    check(await alice.post("/api/v1/job", json=request(content=encoded)), 413, "too-large")
    whole = json.dumps(request(content="A" * 2 * MIB)).encode()
    check(await alice.post("/api/v1/job", content=whole, headers=JSON), 413, "too-large")
    check(await alice.post("/api/v1/job", content=pieces(whole[:MIB], whole[MIB:]), headers=JSON), 413, "too-large")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/job", "GET, POST"),
        ("/api/v1/job/x", "DELETE, GET"),
        ("/api/v1/job/x/status", "GET"),
        ("/api/v1/job/x/output", "GET"),
        ("/api/v1/job/x/output/y", "GET"),
        ("/api/v1/processor", "GET"),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_what_is(platform: Platform, path: str, allowed: str) -> None:
    alice = platform.client()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
        if method not in allowed.split(", "):
            answer = await alice.request(method, path)
            check(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == allowed


async def test_an_address_that_is_not_there_is_a_problem_too(platform: Platform) -> None:
    for path in ("/", "/api/v1", "/api/v2/job", "/api/v1/job/", "/api/v1/job/x/status/", "/api/v1/job//status"):
        check(await platform.client().get(path), 404, "not-found")
