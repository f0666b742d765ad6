"""What a file says, made safe to show."""

import json

import pytest

from gristmill.texts import plain_text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("  The\r\n\tMill ", "The Mill"),
        ("a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("\u202egpj.exe\u2066", "gpj.exe"),
        ("half \ud83d and whole 😀", "half  and whole 😀"),
        ("👩\u200d🌾", "👩\u200d🌾"),
        ("a\u00a0b\u2028c", "a b c"),
        ("\ufeff\ue000", ""),
    ],
)
def test_what_cannot_be_shown_is_left_out(said: str, shown: str) -> None:
    assert plain_text(said) == shown
    assert json.loads(json.dumps(plain_text(said)).encode()) == shown


def test_a_long_text_is_cut_short_and_says_so() -> None:
    assert plain_text("x" * 1000) == "x" * 1000
    assert plain_text("x" * 1001) == "x" * 999 + "…"
    assert plain_text("grist", 3) == "gr…"
