"""Installs the peers into `benchmarks/.peers`, and Debian's packages for them where that is allowed.

What can't be had is left out with a sentence: a missing peer costs its row and never the run.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.measure import say
from benchmarks.report import printed

HERE = Path(__file__).parent
FOLDER = HERE / ".peers"
RIVALS = HERE / "rivals"
VENV_BIN = FOLDER / "venv" / "bin"
_NPM_FILES = ("package.json", "package-lock.json", ".npmrc")
_INSTALL_SECONDS = 300


class MissingPeerError(Exception):
    """A peer isn't here and can't be installed; the message says which."""


@cache
def debian(command: str, package: str) -> str:
    """The path of a command, from Debian's package if need be. Raises `MissingPeerError`."""
    if shutil.which(command) is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise MissingPeerError(f"{command} isn't installed, and only root on Debian or Ubuntu can install it here.")
        _run("apt-get", "update", what=package)
        _run("apt-get", "install", "-y", "--no-install-recommends", package, what=package)
    if (path := shutil.which(command)) is None:
        raise MissingPeerError(f"Debian's {package} holds no {command}.")
    return path


@cache
def python() -> str:
    """The Python that has taskiq and Celery. Raises `MissingPeerError`."""
    wanted, have = HERE / "peers.txt", VENV_BIN.parent / "peers.txt"
    if not have.exists() or have.read_bytes() != wanted.read_bytes():
        _run(sys.executable, "-m", "venv", "--clear", str(VENV_BIN.parent), what="the virtualenv of the peers")
        _run(
            str(VENV_BIN / "pip"), "install", "--disable-pip-version-check", "-r", str(wanted), what="taskiq and Celery"
        )
        shutil.copy(wanted, have)
    return str(VENV_BIN / "python")


@cache
def node() -> Path:
    """The folder in which node finds sharp and tus-node-server. Raises `MissingPeerError`."""
    if shutil.which("npm") is None:
        raise MissingPeerError("npm isn't installed, and sharp and tus-node-server come by it.")
    lock = FOLDER / "package-lock.json"
    installed = (FOLDER / "node_modules").exists()
    if not installed or lock.read_bytes() != (RIVALS / lock.name).read_bytes():
        FOLDER.mkdir(exist_ok=True)
        for name in _NPM_FILES:
            shutil.copy(RIVALS / name, FOLDER / name)
        _run("npm", "ci", what="sharp and tus-node-server")
    return FOLDER


def node_versions(*packages: str) -> dict[str, str]:
    """Which versions of these are in `node()`, and that of node itself."""
    locked = json.loads((RIVALS / "package-lock.json").read_text())["packages"]
    return {
        **{name: locked[f"node_modules/{name}"]["version"] for name in packages},
        "node": printed("node", "--version"),
    }


def _run(*command: str, what: str) -> None:
    say(f"  Installing {what} ...")
    FOLDER.mkdir(exist_ok=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, cwd=FOLDER, env=environment, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingPeerError(f"{what} can't be installed here ({type(error).__name__}).") from error
