"""A plug-in needs nothing but the package `gristmill`: built, installed and tested outside of this repository."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.pages import ROOT

PLUGIN = ROOT / "examples" / "plugin-wordcount"
LIGHT = {"annotated-types", "pydantic", "pydantic-core", "typing-extensions", "typing-inspection"}
"""All that a plug-in's user installs with `gristmill`."""


def run(*command: str | Path, folder: Path) -> str:
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def closure(*names: str) -> set[str]:
    """These distributions and all that they require here."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name not in found:
            found.add(name)
            requirements = map(Requirement, distribution(name).requires or ())
            pending += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


def tops(name: str) -> Iterator[Path]:
    """What a distribution has put into `site-packages`."""
    of = distribution(name)
    for top in {file.parts[0] for file in of.files or () if file.parts[0] not in ("..", "__pycache__")}:
        yield Path(str(of.locate_file(top)))


def test_what_comes_with_the_public_package_is_light() -> None:
    assert closure("gristmill") == {"gristmill", *LIGHT}


@pytest.mark.timeout(180)
def test_a_plugin_is_built_installed_and_tested_with_the_public_package_alone(tmp_path: Path) -> None:
    wheels, environment = tmp_path / "wheels", tmp_path / "environment"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    build = ("wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", wheels)
    run(*pip, *build, ROOT / "libs" / "gristmill", PLUGIN, folder=tmp_path)
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=tmp_path)
    python = environment / "bin" / "python"
    # As in the image, whose environment has no pip either (examples/plugin-wordcount/Dockerfile).
    install = ("--python", python, "install", "--no-index", "--no-deps")
    run(*pip, *install, *sorted(wheels.glob("*.whl")), folder=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path).strip())
    # What an index would bring, without an index.
    for name in LIGHT | closure("pytest"):
        for top in tops(name):
            (site / top.name).symlink_to(top)
    for foreign in ("services", "common", "fastapi", "pymongo", "httpx"):
        run(python, "-c", f"import importlib.util as u; assert not u.find_spec('{foreign}')", folder=tmp_path)
    tests = tmp_path / "tests"
    tests.symlink_to(PLUGIN / "tests")
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tests, folder=tmp_path)
    assert re.search(r"\b[1-9]\d* passed", said)
    assert "failed" not in said
