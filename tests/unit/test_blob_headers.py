"""blob's reading of `Range` and `Content-Digest`, and of ids."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid, Malformed, NotFound, RangeNotSatisfiable
from services.blob.domain.digests import parse_content_digest, repr_digest
from services.blob.domain.ids import check_cursor, check_known, check_new
from services.blob.domain.ranges import parse_range

LONGER = f"sha-256=:{base64.b64encode(bytes(33)).decode()}:"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 0)),
        ("bytes=2-5", (2, 5)),
        ("Bytes=2-5", (2, 5)),
        ("bytes=2-", (2, 9)),
        ("bytes=-3", (7, 9)),
        ("bytes=-30", (0, 9)),
        ("bytes=9-99999999999999999999", (9, 9)),
    ],
)
def test_one_range_is_that_range(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=--1",
        "bytes=1-2-3",
        "lines=1-2",
        "bytes=٣-٤",
        "bytes=0-" + "9" * 5000,
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1_000)),
    ],
)
def test_what_is_no_single_range_gets_the_whole_body(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_a_range_outside_is_refused_with_the_size(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(header, size)
    assert refused.value.headers["Content-Range"] == f"bytes */{size}"


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_slicing_gives(data: bytes, first: int, length: int) -> None:
    if first >= len(data):
        with pytest.raises(RangeNotSatisfiable):
            parse_range(f"bytes={first}-{first + length}", len(data))
    else:
        found = parse_range(f"bytes={first}-{first + length}", len(data))
        assert found is not None
        assert data[found[0] : found[1] + 1] == data[first : first + length + 1]


@given(st.text() | st.from_regex(r"bytes=[0-9, -]*", fullmatch=True), st.integers(0, 2**63))
def test_whatever_the_range_it_lies_within_or_is_the_whole_or_refused(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except RangeNotSatisfiable:
        return
    assert found is None or 0 <= found[0] <= found[1] < size


@given(st.binary())
def test_a_digest_survives_its_header(data: bytes) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    assert parse_content_digest(repr_digest(sha256)) == sha256


def test_other_algorithms_are_passed_over() -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    assert parse_content_digest(None) is None
    assert parse_content_digest("sha-512=:AAAA:") is None
    assert parse_content_digest(f"sha-512=:AAAA:, {repr_digest(sha256)}") == sha256


@pytest.mark.parametrize(
    "header",
    ["", "sha-256", "sha-256=abc", "sha-256=:abc", "sha-256=:!!!:", "sha-256=:AAAA:", "sha-256=::", LONGER],
)
def test_a_digest_that_cannot_be_read_is_malformed(header: str) -> None:
    with pytest.raises(Malformed):
        parse_content_digest(header)


@pytest.mark.parametrize("blob_id", ["", "-a", "A", "a" * 129, "../x", "a/b", "a.b", "a\n", "a\x00", "ä"])
def test_what_is_no_id_never_reaches_a_store(blob_id: str) -> None:
    with pytest.raises(Invalid):
        check_new(blob_id)
    with pytest.raises(NotFound):
        check_known(blob_id)
    if blob_id:
        with pytest.raises(Invalid):
            check_cursor(blob_id, "")
        with pytest.raises(Invalid):
            check_cursor("", blob_id)
