"""Every fault has a test with its number in its name, in the module that the page names."""

import ast
import re

from tests.support.pages import ROOT, page, rows

FOLDER = ROOT / "tests" / "faults"
NUMBERS = re.compile(r"^test_fault((?:_\d\d)+)_")


def numbered() -> set[tuple[str, str]]:
    """The numbers in the names of tests, each with its module."""
    return {
        (number, module.name)
        for module in FOLDER.glob("test_*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (found := NUMBERS.match(node.name))
        for number in found[1].strip("_").split("_")
    }


def test_the_page_has_every_fault_and_where_it_is_tested() -> None:
    listed = [(number, module.strip("`")) for number, _, _, module in rows(page("tests/faults/README.md"))]
    assert [number for number, _ in listed] == [f"{number:02}" for number in range(1, 29)]
    assert set(listed) == numbered()
