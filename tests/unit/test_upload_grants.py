"""The tokens in blob's own signed URLs: whoever changes anything in one has none; and how a file is cut."""

import base64
import json
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.upload import MAX_PARTS
from services.blob.domain.grants import Grant, GrantSigner
from services.blob.domain.uploads import PART_BYTES, is_single, part_count, part_size, parts_from

KEY = b"k" * 32
GRANT = Grant("i-0190", 3, 1000, 2_000_000_000)
CHANGED = [
    replace(GRANT, upload_id="i-0191"),
    replace(GRANT, part=4),
    replace(GRANT, part=None),
    replace(GRANT, size=1001),
    replace(GRANT, expires_at=2_000_000_001),
    replace(GRANT, method="DELETE"),
]


@pytest.mark.parametrize("grant", [GRANT, *CHANGED], ids=str)
def test_a_token_says_what_was_granted(grant: Grant) -> None:
    assert GrantSigner(KEY).read(GrantSigner(KEY).token(grant)) == grant


@pytest.mark.parametrize("changed", CHANGED, ids=str)
def test_a_grant_that_was_changed_has_no_signature(changed: Grant) -> None:
    signature = GrantSigner(KEY).token(GRANT).partition(".")[2]
    payload = json.dumps(astuple(changed), separators=(",", ":")).encode()
    assert GrantSigner(KEY).read(f"{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}") is None


def test_another_keys_token_is_none() -> None:
    assert GrantSigner(b"x" * 32).read(GrantSigner(KEY).token(GRANT)) is None
    with pytest.raises(ValueError, match="at least 32 bytes"):
        GrantSigner(b"short")


@given(st.data())
def test_a_token_with_any_other_character_is_none(data: st.DataObject) -> None:
    token = GrantSigner(KEY).token(GRANT)
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABCabc012-_=.+/ \n\x00é"))
    if character != token[position]:
        assert GrantSigner(KEY).read(token[:position] + character + token[position + 1 :]) is None


@given(st.text(max_size=2000))
def test_anything_else_is_none(text: str) -> None:
    assert GrantSigner(KEY).read(text) is None


@given(st.integers(1, 2**46))
def test_parts_cover_a_file_of_any_size_once(size: int) -> None:
    count, each = part_count(size), part_size(size)
    assert 1 <= count <= MAX_PARTS
    assert each >= PART_BYTES
    assert is_single(size) == (count == 1)
    first, *_ = parts_from(size, 1)
    *_, last = parts_from(size, count)
    assert (first.offset, first.size) == (0, min(size, each))
    assert (last.number, last.offset, last.offset + last.size) == (count, (count - 1) * each, size)
    assert 0 < last.size <= each


def test_the_parts_of_a_file_lie_one_after_another() -> None:
    parts = list(parts_from(10 * PART_BYTES + 1, 1))
    assert [part.number for part in parts] == list(range(1, 12))
    assert [part.offset for part in parts] == [n * PART_BYTES for n in range(11)]
    assert sum(part.size for part in parts) == 10 * PART_BYTES + 1
