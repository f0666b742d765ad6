"""Texts that a file brings along: a title, a camera's name. Whoever made the file may have put anything there."""

# Without these two, words of Persian and of Indian scripts are spelt wrong, and emoji fall apart.
_JOINERS = "\u200c\u200d"
MAX_CHARACTERS = 1000
MAX_NAME_CHARACTERS = 128


def plain_text(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """`text` in one line that is safe to show and to put into JSON: white space is one blank, control characters,
    directions and halves of characters are left out, and what is longer than `max_characters` is cut short."""
    shown = "".join(found for found in " ".join(text.split()) if found.isprintable() or found in _JOINERS)
    return shown if len(shown) <= max_characters else shown[: max_characters - 1] + "…"


def is_output_name(name: str) -> bool:
    """Whether an output may have this name: 1 to 128 characters that can be shown, no slash or backslash, no blank at
    its ends, and neither `.` nor `..`. So it is one part of a path and of a URL everywhere.
    """
    return (
        1 <= len(name) <= MAX_NAME_CHARACTERS
        and name not in {".", ".."}
        and name == name.strip()
        and not any(char in "/\\" or not (char.isprintable() or char in _JOINERS) for char in name)
    )
