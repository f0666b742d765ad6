"""Every row of the page of bad input has tests that are there, and a response whose type the docs explain."""

import ast
import re
from functools import cache

from tests.support.pages import ROOT, page, rows

LINES = [line for line in page("tests/bad_input.md").splitlines() if line.startswith("| ")][1:]
ROWS = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in LINES]
TESTS = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
TYPES = re.compile(r"(?:[45]\d\d|`EXECUTION_ERROR`) `([\w-]+)`")


@cache
def functions(module: str) -> set[str]:
    tree = ast.parse((ROOT / module).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_kind_of_bad_input_is_tested() -> None:
    assert len(ROWS) >= 31
    for case, _, named in ROWS:
        tests = TESTS.findall(named)
        assert len(tests) == named.count("::") > 0, case
        for module, name in tests:
            assert name in functions(module), f"{module} has no {name}"


def test_every_answer_is_of_a_type_that_the_docs_explain() -> None:
    explained = {slug for slug, *_ in rows(page("docs/problems.md"))}
    for case, answer, _ in ROWS:
        unknown = set(TYPES.findall(answer)) - explained
        assert not unknown, case
        assert TYPES.search(answer) or not re.search(r"[45]\d\d", answer) or "as the store has it" in answer, case
