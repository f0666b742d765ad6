"""Processors that are configured: what is wrong with one is said at the start, and names its variable."""

import json
from typing import Any

import pytest

from common.settings import load
from services.processor import __main__ as processor
from services.processor import registry
from services.processor.settings import Settings

NEEDED = {"PROCESSOR_JOB_URL": "http://job", "PROCESSOR_BLOB_URL": "http://blob", "PROCESSOR_KEY_FILE": "processor.pem"}
URL = {"url": "http://127.0.0.1:9000"}
ARGV = {"argv": ["wc", "{input}"]}
SCHEMA = {"type": "object", "properties": {"words": {"type": "integer"}}}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)


def test_configured_processors_are_offered_beside_the_installed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    analyzers = [URL, {**URL, "name": "ocr", "version": "2.1.0", "mediaTypes": ["image/*"], "params": SCHEMA}]
    commands = [{**ARGV, "limits": {"maxInputBytes": 1000, "wallSeconds": 1.5}}]
    monkeypatch.setenv("PROCESSOR_ANALYZERS", json.dumps(analyzers))
    monkeypatch.setenv("PROCESSOR_COMMANDS", json.dumps(commands))
    available = registry.available(load(Settings))
    offers = {offer.name: offer for offer in registry.offers(available.values())}
    assert offers.keys() - registry.installed().keys() == {"analyzer", "ocr", "command"}
    assert (offers["ocr"].version, offers["ocr"].media_types, offers["ocr"].params) == ("2.1.0", ["image/*"], SCHEMA)
    assert offers["analyzer"].params == {"type": "object", "properties": {}, "additionalProperties": False}
    assert offers["command"].limits.max_input_bytes == 1000
    assert available["command"].limits.wall_seconds == 1.5
    assert {name: available[name].network for name in ("ocr", "command", "checksum")} == {
        "ocr": True,
        "command": False,
        "checksum": False,
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ANALYZERS", "[", "PROCESSOR_ANALYZERS: It should be JSON."),
        ("ANALYZERS", URL, "PROCESSOR_ANALYZERS: It should be a list of up to 100 items"),
        ("ANALYZERS", [{}], "ANALYZERS_0_URL: It is missing. It should be a text"),
        ("ANALYZERS", [{"url": "ftp://host/"}], "ANALYZERS_0_URL: A URL has http or https"),
        ("ANALYZERS", [{"url": "http://"}], "ANALYZERS_0_URL: A URL has http or https"),
        ("ANALYZERS", [{"url": "http://me:secret@host/"}], "ANALYZERS_0_URL: A URL has http"),
        ("ANALYZERS", [{"url": "http://host:port/"}], "ANALYZERS_0_URL: This isn't a URL."),
        (
            "ANALYZERS",
            [{**URL, "timeout": 3}],
            "ANALYZERS_0_TIMEOUT: There is no field `timeout`. Did you mean",
        ),
        ("ANALYZERS", [{**URL, "timeoutSeconds": 900}], "PROCESSOR_ANALYZERS: timeoutSeconds of 'analyzer' is more"),
        (
            "ANALYZERS",
            [{**URL, "name": "OCR"}],
            "ANALYZERS_0_NAME: It should be up to 64 lower-case letters",
        ),
        (
            "ANALYZERS",
            [{**URL, "version": "1"}],
            "ANALYZERS_0_VERSION: It should be three numbers such as",
        ),
        ("ANALYZERS", [{**URL, "mediaTypes": ["Image/PNG"]}], "ANALYZERS_0_MEDIATYPES: 'Image/"),
        (
            "ANALYZERS",
            [{**URL, "mediaTypes": []}],
            "ANALYZERS_0_MEDIATYPES: It should be a list of 1 to 100",
        ),
        (
            "ANALYZERS",
            [{**URL, "limits": {"cpu": 1}}],
            "ANALYZERS_0_LIMITS_CPU: There is no field `cpu`.",
        ),
        ("ANALYZERS", [{**URL, "params": {}}], "ANALYZERS_0_PARAMS: Parameters are an object"),
        (
            "ANALYZERS",
            [{**URL, "params": {"type": "object", "properties": {"a": {"type": "text"}}}}],
            "ANALYZERS_0_PARAMS: This isn't a JSON Schema: ",
        ),
        (
            "ANALYZERS",
            [{**URL, "params": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/"}}}}],
            "a schema refers to nothing outside itself",
        ),
        ("ANALYZERS", [URL, URL], "PROCESSOR_ANALYZERS: there is another processor 'analyzer'"),
        ("COMMANDS", [{**ARGV, "name": "checksum"}], "PROCESSOR_COMMANDS: there is another processor 'checksum'"),
        ("COMMANDS", [{"argv": []}], "COMMANDS_0_ARGV: It should be a list of 1 to"),
        ("COMMANDS", [{"argv": "wc {input}"}], "COMMANDS_0_ARGV: It should be a list of 1 to"),
        ("COMMANDS", [{"argv": ["no-such-program"]}], "COMMANDS_0_ARGV: There is no program"),
        ("COMMANDS", [{"argv": ["/etc/passwd"]}], "COMMANDS_0_ARGV: There is no program"),
        ("COMMANDS", [{"argv": ["wc", "\0"]}], "COMMANDS_0_ARGV: An argument has no null"),
        ("COMMANDS", [{**ARGV, "inputErrorCodes": [0]}], "COMMANDS_0_INPUTERRORCODES_0: "),
    ],
)
def test_a_fault_names_its_variable_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: Any, said: str
) -> None:
    monkeypatch.setenv(f"PROCESSOR_{name}", value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(SystemExit) as ended:
        processor.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
