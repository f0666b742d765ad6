"""docs/processors.md and the examples are true of the code."""

import ast
import sys

import pytest

from gristmill.wire.processors import OfferedLimits
from services.processor.processors.analyzer import AnalyzerConfiguration
from services.processor.processors.command import CommandConfiguration
from services.processor.processors.configured import Configuration
from tests.support.pages import ROOT, page, rows, section

PAGE = page("docs/processors.md")


def keys(kind: type[Configuration]) -> set[str]:
    return {str(field.alias) for field in kind.model_fields.values()}


def listed(heading: str) -> set[str]:
    table = section(PAGE, heading).partition("| key |")[2].partition("\n\n")[0]
    return {row[0] for row in rows(table)}


def test_every_key_of_a_container_is_listed() -> None:
    assert listed("## A container") == keys(AnalyzerConfiguration)


def test_every_key_of_a_program_is_listed() -> None:
    assert listed("## A program") == keys(CommandConfiguration) - keys(Configuration)


@pytest.mark.parametrize("kind", [AnalyzerConfiguration, CommandConfiguration])
def test_the_defaults_are_those_listed(kind: type[Configuration]) -> None:
    fields = {str(field.alias): field.get_default(call_default_factory=True) for field in kind.model_fields.values()}
    for heading in ("## A container", "## A program"):
        for key, default, *_ in rows(section(PAGE, heading)):
            written = default.strip("`")
            if key in fields and default.startswith("`") and key != "name":
                assert str(fields[key]).replace("'", '"') == written, key


def test_every_limit_is_listed_in_both_ways_of_writing() -> None:
    table = {row[0].split("`")[0]: row[1].strip("`") for row in rows(section(PAGE, "## Limits"))}
    assert table == {name: field.alias for name, field in OfferedLimits.model_fields.items()}


def test_the_plugin_imports_nothing_of_ours_but_the_public_package() -> None:
    (source,) = (ROOT / "examples" / "plugin-wordcount" / "src").rglob("*.py")
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
    assert imported - sys.stdlib_module_names == {"gristmill", "pydantic"}
