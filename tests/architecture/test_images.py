"""Images: from what is locked, with native libraries only where files are worked on, and nothing beside it."""

import re
import shlex
import tomllib

import pytest

from services.processor.child.kernel import seccomp
from tests.architecture.deployed import PROCESSES
from tests.support.pages import page

DOCKERFILE = page("deploy/docker/Dockerfile")
STAGES = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    """Each package of a lock as `name==version`, and its hashes."""
    blocks = re.split(r"^(?=[a-z0-9])", page(lock), flags=re.MULTILINE)
    return {
        block.split(maxsplit=1)[0]: set(re.findall(r"--hash=(sha256:\w+)", block)) for block in blocks if "==" in block
    }


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", each, maxsplit=1)[0].replace(".", "-").lower() for each in requirements}


def packages(lock: str) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(lock)}


@pytest.mark.parametrize("lock", ["services", "processor"])
def test_images_have_the_versions_that_are_tested(lock: str) -> None:
    tested = pins("requirements.lock")
    assert pins(f"deploy/docker/{lock}.lock").items() <= tested.items()


def test_images_have_all_that_is_declared_and_native_libraries_only_where_files_are_worked_on() -> None:
    project = tomllib.loads(page("pyproject.toml"))["project"]
    public = tomllib.loads(page("libs/gristmill/pyproject.toml"))["project"]
    declared = (named(project["dependencies"]) | named(public["dependencies"])) - {public["name"]}
    native = named(project["optional-dependencies"]["processor"])
    assert declared <= packages("deploy/docker/services.lock")
    assert declared | native <= packages("deploy/docker/processor.lock")
    assert native.isdisjoint(packages("deploy/docker/services.lock"))
    assert packages("deploy/docker/services.lock") <= packages("deploy/docker/processor.lock")


@pytest.mark.parametrize(
    "lock", ["deploy/docker/services.lock", "deploy/docker/build.lock", "deploy/checks/tools.lock"]
)
def test_every_pin_has_a_hash_and_no_lock_names_a_host(lock: str) -> None:
    assert all(pins(lock).values())
    assert "://" not in page(lock)


def test_there_is_a_target_for_every_process_that_starts_it_as_the_procfile_does() -> None:
    stages = {name: base for base, name in STAGES}
    commands = dict(line.split(": ", 1) for line in page("Procfile").splitlines())
    assert commands.keys() == set(PROCESSES)
    for name, command in commands.items():
        stage = re.split(r"^FROM ", DOCKERFILE.split(f" AS {name}\n")[1], flags=re.MULTILINE)[0]
        assert re.findall(r"^CMD \[(.+)\]$", stage, flags=re.MULTILINE) == [
            ", ".join(f'"{word}"' for word in shlex.split(command))
        ]
        assert "HEALTHCHECK" in stage
        assert "org.opencontainers.image.title" in stage
        user = stage if "USER" in stage else DOCKERFILE.split(f" AS {stages[name]}\n")[1].split("\nFROM ", 1)[0]
        assert re.findall(r"^USER (\S+)$", user, flags=re.MULTILINE) == ["10001:10001"]


def test_bases_are_pinned_by_digest() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    own = {name for _, name in STAGES}
    assert {of for of, _ in STAGES} - own == {"${BASE}"}


def test_the_processors_image_has_what_confines_runs() -> None:
    stage = DOCKERFILE.split(" AS processor\n")[1]
    assert seccomp._LIBRARY == "libseccomp.so.2"
    assert "libseccomp2=" in stage


def test_images_are_made_of_what_is_listed_so_that_no_key_gets_in() -> None:
    lines = [line for line in page(".dockerignore").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {
        "!pyproject.toml",
        "!README.md",
        "!libs",
        "!services",
        "!deploy/docker/*.lock",
    }
