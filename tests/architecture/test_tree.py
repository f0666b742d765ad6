"""Where things are: the same names in every service, so that who knows one can read all, and no file too long."""

import re
import statistics

import pytest

from tests.support.pages import ROOT, page, section, table

FOLDERS = ("libs", "services", "deploy", "tests", "benchmarks", "examples")
MOST_LINES = 400
MOST_ROWS = 25
# `use_cases` may be a module where the use cases are few.
LAYERS = ("__main__", "app", "settings", "api", "use_cases", "ports", "domain", "adapters")
# Further commands of a service, beside its own start.
COMMANDS = {"tracker", "setup", "rotate"}
SERVERS = ("front", "blob", "job")


def lines() -> dict[str, int]:
    """The lines of each file of Python, hidden folders aside: what is in those is made, not written."""
    found = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return {
        str(path): (ROOT / path).read_text(encoding="utf-8").count("\n")
        for path in found
        if not any(part.startswith(".") for part in path.parts)
    }


def test_no_file_is_too_long() -> None:
    assert {name: count for name, count in lines().items() if count > MOST_LINES} == {}


def test_files_are_short_as_a_rule() -> None:
    assert statistics.median(count for count in lines().values() if count > 1) < MOST_LINES / 3


@pytest.mark.parametrize("service", SERVERS)
def test_every_server_has_the_same_parts(service: str) -> None:
    parts = {path.stem for path in (ROOT / "services" / service).iterdir()} - {"__init__", "__pycache__"}
    assert parts - COMMANDS == set(LAYERS)


def test_the_processor_has_its_own() -> None:
    parts = {path.stem for path in (ROOT / "services" / "processor").iterdir()}
    assert {"__main__", "app", "settings", "ports", "worker", "sandbox", "processors"} <= parts


KINDS = ("architecture", "contract", "e2e", "faults", "integration", "soak", "unit")


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_test_imports_another(kind: str) -> None:
    others = "|".join(other for other in KINDS if other != kind)
    imported = re.compile(rf"^\s*(?:from|import) tests\.(?:{others})\b", re.MULTILINE)
    found = [path for path in (ROOT / "tests" / kind).rglob("*.py") if imported.search(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize("shared", ["support", "fakes"])
def test_what_tests_share_imports_no_test(shared: str) -> None:
    imported = re.compile(rf"^\s*(?:from|import) tests\.(?:{'|'.join(KINDS)})\b", re.MULTILINE)
    assert [path for path in (ROOT / "tests" / shared).rglob("*.py") if imported.search(path.read_text("utf-8"))] == []


def test_the_table_of_where_to_look_is_short() -> None:
    assert 0 < len(table(section(page("ARCHITECTURE.md"), "## I want to change ..."))) <= MOST_ROWS


def test_fakes_are_nowhere_but_under_tests() -> None:
    found = [name for name in lines() if "fake" in name.lower() and not name.startswith("tests/")]
    assert found == []
