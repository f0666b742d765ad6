"""Texts that a file brings along: a title, a camera's name. Whoever made the file may have put anything there."""

# Without these two, words of Persian and of Indian scripts are spelt wrong, and emoji fall apart.
_JOINERS = "\u200c\u200d"
MAX_CHARACTERS = 1000


def plain_text(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """`text` in one line that is safe to show and to put into JSON: white space is one blank, control characters,
    directions and halves of characters are left out, and what is longer than `max_characters` is cut short."""
    shown = "".join(found for found in " ".join(text.split()) if found.isprintable() or found in _JOINERS)
    return shown if len(shown) <= max_characters else shown[: max_characters - 1] + "…"
