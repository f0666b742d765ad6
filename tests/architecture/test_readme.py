"""What the documents name is there: targets, settings, files, routes. tests/e2e/test_readme.py pastes the curls."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from deploy.local.settings import LocalSettings, TokenSettings
from services.blob.settings import Settings as BlobSettings
from services.front.settings import Settings as FrontSettings
from services.front.settings import TrackerSettings
from services.job.settings import Settings as JobSettings
from services.processor.settings import Settings as ProcessorSettings
from tests.support.pages import ROOT, code_blocks, page, rows, section

README = page("README.md")
DOCUMENTS = [path.relative_to(ROOT) for glob in ("*.md", "docs/**/*.md", "examples/*/*.md") for path in ROOT.glob(glob)]
SETTINGS: list[type[BaseSettings]] = [
    LocalSettings,
    TokenSettings,
    FrontSettings,
    TrackerSettings,
    BlobSettings,
    JobSettings,
    ProcessorSettings,
]
API = "$API"
MOST_BYTES = 6 * 1024


def shell_of(name: str) -> list[str]:
    return code_blocks(page(name), "sh")


def variables(kind: type[BaseSettings]) -> dict[str, Any]:
    """The variables that a class of settings reads, and their defaults."""
    prefix = kind.model_config.get("env_prefix", "")
    return {(prefix + name).upper(): field.get_default() for name, field in kind.model_fields.items()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_target_of_make_that_is_named_exists(document: Path) -> None:
    text = page(str(document))
    code = "\n".join([*code_blocks(text, "sh"), *re.findall(r"`([^`\n]+)`", text)])
    named = set(re.findall(r"^make (?:-s )?([a-z]+)", code, flags=re.MULTILINE))
    assert named <= set(re.findall(r"^([a-z]+):", page("Makefile"), flags=re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"\b(?:FRONT|BLOB|JOB|PROCESSOR|GRISTMILL|MONGODB)_[A-Z_]*[A-Z]\b", page(str(document))))
    assert named <= {name for kind in SETTINGS for name in variables(kind)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = page(str(document))
    links = [(ROOT / document).parent / link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)]
    paths = [ROOT / path for path in re.findall(r"`((?:libs|services|deploy|tests|docs|benchmarks)/[\w./]+)`", text)]
    assert not [str(path) for path in links + paths if not path.exists()]


def test_the_settings_of_make_up_are_listed_with_their_defaults() -> None:
    listed = {
        row[0]: row[1].strip("`")
        for row in rows(section(page("docs/guide/settings.md"), "## Of `make up`"))
        if row[0].isupper()
    }
    shown = {None: "none", True: "1", False: "0", PydanticUndefined: "needed"}
    listed_with_prefix = {name: default for name, default in listed.items() if not name.endswith("_")}
    assert listed_with_prefix == {
        name: shown[default] if default is None or isinstance(default, bool) else str(default)
        for name, default in {**variables(TokenSettings), **variables(LocalSettings)}.items()
    }


def curls() -> list[list[str]]:
    """The words of each curl in the README's five."""
    (block,) = code_blocks(section(README, "## The API in five curls"), "sh")
    flat = block.replace("\\\n", " ")
    return [shlex.split(command) for command in re.findall(r"curl ((?:'[^']*'|\"[^\"]*\"|[^;|)'\"\n])+)", flat)]


def test_there_are_five_examples() -> None:
    (block,) = code_blocks(section(README, "## The API in five curls"), "sh")
    assert re.findall(r"^# (\d)\. ", block, flags=re.MULTILINE) == list("12345")
    assert len(curls()) == block.count("curl ")


def test_it_is_short_and_has_a_picture() -> None:
    assert len(README.encode()) <= MOST_BYTES
    (picture,) = re.findall(r"^!\[[^\]]+\]\(([^)]+\.png)\)$", README, flags=re.MULTILINE)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


BLOCKS = [
    block for name in ("README.md", *map(str, sorted((ROOT / "docs/guide").glob("*.md")))) for block in shell_of(name)
]


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_can_be_read_by_a_shell(block: str) -> None:
    subprocess.run(["/bin/bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("words", curls(), ids=lambda words: words[-1][:40])
def test_every_curl_calls_a_route_of_the_api(words: list[str]) -> None:
    (address,) = [word for word in words if word.startswith(API)]
    path = "/api/v1" + address.removeprefix(API).split("?", 1)[0].replace("$JOB", "{job_id}")
    path = re.sub(r"/output/.+", "/output/{output_name}", path)
    method = "post" if {"-T", "-d", "-F"} & set(words) else "get"
    assert method in json.loads(page("docs/openapi/front.json"))["paths"][path]
