"""What the tests of the documents read them with."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level or above; `# ` may be a comment in a block of code."""
    level = heading.split(" ", 1)[0]
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, f"there is no heading {heading!r}"
    return re.split(rf"^#{{2,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def code_blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def table(text: str) -> list[list[str]]:
    """The cells of every table row but its head."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    heads = [n for n, line in enumerate(cells[1:]) if set(line[0]) == {"-"}]
    return [line for n, line in enumerate(cells) if n not in heads and n - 1 not in heads]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row whose first cell is code, without the backquotes of that cell."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[cells[0].strip().strip("`"), *(cell.strip() for cell in cells[1:])] for cells in lines]
