"""Where things are: the same names in every service, so that who knows one can read all, and no file too long."""

import statistics

import pytest

from tests.support.pages import ROOT

FOLDERS = ("libs", "services", "deploy", "tests", "benchmarks", "examples")
MOST_LINES = 400
# `use_cases` may be a module where the use cases are few.
LAYERS = ("__main__", "app", "settings", "api", "use_cases", "ports", "domain", "adapters")
# Further commands of a service, beside its own start.
COMMANDS = {"tracker", "setup"}
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


def test_fakes_are_nowhere_but_under_tests() -> None:
    found = [name for name in lines() if "fake" in name.lower() and not name.startswith("tests/")]
    assert found == []
