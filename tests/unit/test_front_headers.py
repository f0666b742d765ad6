"""Header fields that front reads and writes itself."""

import base64
import hashlib

import pytest

from common.errors import Malformed
from services.front.api.headers import attachment, sha256_digest, wait_seconds

DIGEST = hashlib.sha256(b"hello")
FIELD = f"sha-256=:{base64.b64encode(DIGEST.digest()).decode()}:"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=10", 10),
        ("WAIT = 10", 10),
        ('wait="10"', 10),
        ("respond-async, wait=5", 5),
        ("wait=5; foo=bar", 5),
        ("wait=61", 60),
        ("wait=99999999999999999", 60),
        ("wait=1, wait=2", 1),
        ("wait=0", 0),
        ("wait=-1", 0),
        ("wait=1e3", 0),
        ("wait=5x", 0),
        ("await=5", 0),
        ("wait=" + "9" * 5000, 0),
    ],
)
def test_a_client_may_wait_a_minute_at_most(prefer: str | None, seconds: int) -> None:
    assert wait_seconds(prefer) == seconds


@pytest.mark.parametrize("field", [FIELD, FIELD.replace("sha", "SHA"), f"md5=:AAAA:, {FIELD}", f"{FIELD} , x=:AA==:"])
def test_a_declared_digest_is_read(field: str) -> None:
    assert sha256_digest(field) == DIGEST.hexdigest()


@pytest.mark.parametrize("field", [None, "", "md5=:AAAA:"])
def test_no_digest_of_ours_is_none(field: str | None) -> None:
    assert sha256_digest(field) is None


@pytest.mark.parametrize(
    "field", ["sha-256=", "sha-256=::", "sha-256=:AAAA:", FIELD[:-1], FIELD.replace("=:", ":"), f"x{FIELD}"]
)
def test_a_digest_that_cannot_be_read_is_malformed(field: str) -> None:
    with pytest.raises(Malformed):
        sha256_digest(field)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.png", "attachment; filename=\"a.png\"; filename*=UTF-8''a.png"),
        ('a"; x="b', "attachment; filename=\"a__ x__b\"; filename*=UTF-8''a%22%3B%20x%3D%22b"),
        ("ü€.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC%E2%82%AC.txt"),
        ("a\r\nB: c", "attachment; filename=\"a__B_ c\"; filename*=UTF-8''a%0D%0AB%3A%20c"),
    ],
)
def test_a_name_cannot_break_out_of_its_header(name: str, header: str) -> None:
    assert attachment(name) == header
