"""The decisions have one form, and the index has them all."""

import re
from pathlib import Path

import pytest

from tests.support.pages import ROOT, page, table

FOLDER = ROOT / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("0*.md"))
SECTIONS = ["Context", "Decision", "Rejected", "What it costs"]
HEAD = re.compile(
    r"# (\d{4}): (.+)\n\nDate: (\d{4}-\d\d-\d\d)\. Status: (accepted|superseded by \[\d{4}\]\(.+\))\.\n\n"
)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_decision_has_the_form_of_all(path: Path) -> None:
    text = page(f"docs/decisions/{path.name}")
    head = HEAD.match(text)
    assert head
    assert path.stem.startswith(head[1])
    sections = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert [each for each in SECTIONS if each in sections] == sections
    assert {"Context", "Decision", "What it costs"} <= set(sections)


def test_the_index_has_every_decision_with_its_date_and_status() -> None:
    listed = [(row[0], row[1], row[2]) for row in table(page("docs/decisions/README.md"))]
    expected = []
    for path in PAGES:
        head = HEAD.match(page(f"docs/decisions/{path.name}"))
        assert head
        expected.append((f"[{head[1]}]({path.name}) {head[2]}", head[3], head[4]))
    assert listed == expected


def test_numbers_have_no_gap() -> None:
    assert [int(path.name[:4]) for path in PAGES] == list(range(1, len(PAGES) + 1))
