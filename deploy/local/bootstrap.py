"""Makes `.venv` from the hash-locked file, or `.venv-tools`, for tools that clash with it, when told `tools`.

Run by whatever Python there is, so it needs the standard library alone.

An old Python has to be able to read this file, and to run it as far as the sentence that turns it away, so its syntax
stays that of 3.6.
"""
# ruff: noqa: E402 - the version is checked before anything is imported that an old Python may not have

import sys

NEEDED = (3, 11)


def fault_of_python(version: "tuple[object, ...]") -> str:
    """What is wrong with this version of Python, as one sentence; nothing if it will do."""
    if tuple(version[:2]) >= NEEDED:
        return ""
    found = ".".join(str(part) for part in version[:2])
    return "Gristmill needs Python 3.11 or newer, and this is {}: try `make PYTHON=python3.12 up`.".format(found)  # noqa: UP032 - as above


if __name__ == "__main__" and fault_of_python(sys.version_info):
    sys.exit(fault_of_python(sys.version_info))

import collections
import contextlib
import hashlib
import os
import shutil
import subprocess
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NEEDED_BYTES = 1_500_000_000  # .venv takes 0.5 GB, and pip keeps about as much again while it works
STAMP = Path(".venv") / "gristmill.stamp"
TOOLS = ".venv-tools"
LOCK = ".setup.lock"
TOOLS_LOCK = "deploy/checks/tools.lock"
SHOWN_LINES = 15
PROGRESS_SECONDS = 3


class SetupError(Exception):
    """The setup can't be made; the message is for whoever typed `make`."""


def say(line: str) -> None:
    # Not to standard output: `make token` prints nothing but a token there.
    print(line, file=sys.stderr, flush=True)


def place(root: Path) -> str:
    """Where `.venv` works: its scripts name its folder, and its packages fit one Python."""
    return f"python{sys.version_info[0]}.{sys.version_info[1]} {root}"


def digest(root: Path) -> str:
    """What `.venv` is made from."""
    found = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml", "libs/gristmill/pyproject.toml"):
        found.update((root / name).read_bytes())
    return found.hexdigest()


def read_stamp(root: Path) -> "list[str]":
    """What the last setup that came to its end wrote: its place and its digest; nothing if there was none."""
    stamp = root / STAMP
    return stamp.read_text().splitlines() if stamp.is_file() else []


def set_up(root: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Make or renew `.venv`, unless it is up to date. Raises `SetupError`."""
    stamp = [place(root), digest(root)]
    if read_stamp(root) == stamp:
        return
    free = shutil.disk_usage(root).free
    if free < needed_bytes:
        raise SetupError(
            f"There is no room for .venv: {free / 1e9:.1f} GB are free, {needed_bytes / 1e9:.1f} are needed."
        )
    started = time.monotonic()
    say("Setting up .venv (once; about a minute)")
    _make_venv(root)
    python = str(root / ".venv" / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install"]
    _run("packages", [*pip, "--require-hashes", "-r", "requirements.lock"], root)
    _run("gristmill itself", [*pip, "--no-deps", "--no-build-isolation", "-e", "libs/gristmill", "-e", "."], root)
    (root / STAMP).write_text("\n".join(stamp))
    say(f"  done in {time.monotonic() - started:.0f} s")


def set_up_tools(root: Path) -> None:
    """Make or renew `.venv-tools`, unless it is up to date. Raises `SetupError`."""
    stamp = root / TOOLS / STAMP.name
    wanted = "\n".join([place(root), hashlib.sha256((root / TOOLS_LOCK).read_bytes()).hexdigest()])
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    say(f"Setting up {TOOLS} (once; about a minute)")
    stamp.unlink(missing_ok=True)
    _create(root / TOOLS, clear=True)
    pip = [str(root / TOOLS / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    _run("tools", [*pip, "--require-hashes", "-r", TOOLS_LOCK], root)
    stamp.write_text(wanted)
    say(f"  done in {time.monotonic() - started:.0f} s")


def _make_venv(root: Path) -> None:
    # Without its stamp a .venv is what an interrupted setup left: it may hold half a package, so it is made anew.
    usable = read_stamp(root)[:1] == [place(root)]
    (root / STAMP).unlink(missing_ok=True)
    _create(root / ".venv", clear=not usable)


def _create(folder: Path, *, clear: bool) -> None:
    try:
        venv.EnvBuilder(with_pip=True, clear=clear, symlinks=True).create(folder)
    except (subprocess.CalledProcessError, OSError) as error:
        raise SetupError(
            f"No virtual environment can be made here ({error}); on Debian and Ubuntu `apt install python3-venv` helps."
        ) from None


def _run(what: str, command: "list[str]", root: Path) -> None:
    """Run pip with a line of progress every few seconds; when it fails, show the last lines it printed."""
    say(f"  {what} ...")
    last: collections.deque[str] = collections.deque(maxlen=SHOWN_LINES)
    count, next_line = 0, time.monotonic() + PROGRESS_SECONDS
    with subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            count += line.startswith("Collecting ")
            if count and line.startswith("Installing collected packages"):
                say(f"  {count} fetched, installing ...")
            elif time.monotonic() > next_line:
                next_line = time.monotonic() + PROGRESS_SECONDS
                say(f"  {count} fetched, and more coming ...")
    if process.returncode:
        for line in last:
            say(f"    {line}")
        raise SetupError(
            f"pip failed while it installed {what}; its last lines are above. Run the same command to try again."
        )


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> "Iterator[None]":
    """Two setups of one checkout would clear what the other installs; the second waits, and finds all done."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (root / LOCK).open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another setup is under way here: waiting for its end.")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main(root: Path = ROOT, *, tools: bool = False) -> int:
    try:
        with _one_at_a_time(root):
            set_up_tools(root) if tools else set_up(root)
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"The setup failed: {error}.")
        return 1
    except KeyboardInterrupt:
        say("The setup was interrupted; the next run starts it again.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(tools=sys.argv[1:] == ["tools"]))
