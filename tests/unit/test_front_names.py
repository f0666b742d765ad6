"""A file's name is a label: it can neither climb out of a folder nor break a header nor fool a reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Invalid
from services.front.api.headers import attachment
from services.front.domain import names

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=300)


@pytest.mark.parametrize(
    ("given_name", "label"),
    [
        ("holiday.jpg", "holiday.jpg"),
        ("täst 写真.png", "täst 写真.png"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\alice\\photo.png", "photo.png"),
        ("photo.png\r\nSet-Cookie: a=b", "photo.pngSet-Cookie: a=b"),
        ("a\x00b\x1b[31m\x7f.png", "ab[31m.png"),
        ("invoice\u202egnp.exe", "invoicegnp.exe"),
        ("\u2066\u200bfile\u2069\ufeff.txt", "file.txt"),
        ("two\u2028lines", "twolines"),
        ("half \ud83d a pair", "half  a pair"),
        ("  padded  ", "padded"),
        (".hidden", ".hidden"),
    ],
)
def test_a_name_is_cleaned(given_name: str, label: str) -> None:
    assert names.clean(given_name) == label


@pytest.mark.parametrize("nothing", [None, "", " ", ".", "..", "a/", "..\\..", "\u202e", "\x00"])
def test_a_name_of_which_nothing_is_left_gets_the_default(nothing: str | None) -> None:
    assert names.clean(nothing) == names.DEFAULT


@pytest.mark.parametrize(("fits", "over"), [("x" * 255, "x" * 256), ("é" * 127, "é" * 128)])
def test_a_name_has_at_most_255_bytes(fits: str, over: str) -> None:
    assert names.clean(fits) == fits
    with pytest.raises(Invalid) as refusal:
        names.clean(over)
    assert refusal.value.errors == [{"pointer": "/name", "detail": "A name has at most 255 bytes."}]


@given(ANY_TEXT)
def test_whatever_the_name_its_label_is_harmless(given_name: str) -> None:
    try:
        label = names.clean(given_name)
    except Invalid:
        return
    assert label not in ("", ".", "..")
    assert not set(label) & set("/\\\r\n\x00\x85\u2028\u202e")
    assert len(label.encode()) <= 255
    assert names.clean(label) == label
    header = attachment(label)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
