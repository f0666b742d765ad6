"""Plug-ins that can't be offered: each is named at the start, and none of them is left out in silence."""

import sys
from pathlib import Path

import pytest

from services.processor import registry

PLUGIN = """
from pydantic import Field
from gristmill import Params, Processor

class Nothing(Params):
    pass

class Plugin(Processor[Nothing]):
    name, version, summary, media_types, params_model = "plugin", "1.0.0", "A plug-in.", ("*/*",), Nothing
    def process(self, file, params, context):
        return []
"""
LISTED = "[gristmill.processors]\nplugin = plugin_under_test:Plugin\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python looks for packages in."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugin_under_test", raising=False)
    return tmp_path


def install(site: Path, source: str, distribution: str = "plugin", listed: str = LISTED) -> None:
    (site / "plugin_under_test.py").write_text(source)
    metadata = site / f"{distribution}-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(listed)


def test_an_installed_plugin_is_there(site: Path) -> None:
    install(site, PLUGIN)
    assert {"plugin", "checksum"} <= registry.installed().keys()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import Params", "import Parameters", "cannot import name 'Parameters'"),
        ("class Plugin", "class Other", "has no attribute 'Plugin'"),
        ("class Plugin(Processor[Nothing])", "class Plugin", "this isn't a gristmill.Processor"),
        ("def process", "def run", "abstract"),
        ('"plugin", "1.0.0"', '"other", "1.0.0"', "the processor calls itself 'other'"),
        ('"1.0.0"', '"1.0"', "version: It should be three numbers such as `1.0.0`, and is `1.0`."),
        ("name, version, summary", "name, versions, summary", "has no attribute 'version'"),
        ('("*/*",)', '("Image/PNG",)', "'Image/PNG' isn't a media type"),
        ("    pass", '    a: int = Field(1, json_schema_extra={"type": "number!"})', "this isn't a JSON Schema"),
        ("    pass", '    a: int = Field(1, json_schema_extra={"$ref": "http://127.0.0.1:1/"})', "outside itself"),
    ],
)
def test_a_plugin_that_cannot_be_offered_is_named(site: Path, old: str, new: str, said: str) -> None:
    assert old in PLUGIN
    install(site, PLUGIN.replace(old, new))
    with pytest.raises(registry.RegistryError) as fault:
        registry.installed()
    assert str(fault.value).startswith("The entry point plugin = plugin_under_test:Plugin: ")
    assert said in str(fault.value)


def test_two_plugins_of_one_name_are_refused(site: Path) -> None:
    install(site, PLUGIN)
    install(site, PLUGIN, distribution="another")
    with pytest.raises(registry.RegistryError, match="another one has this name"):
        registry.installed()
