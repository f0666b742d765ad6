"""Writes what was measured into RESULTS.md, each bench between markers of its own; what is written by hand stays."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Effort, Section

RESULTS = Path(__file__).parent / "RESULTS.md"
_PACKAGES = ("fastapi", "uvicorn", "uvloop", "pymongo", "pydantic", "pyvips")


def write(section: Section, effort: Effort, path: Path = RESULTS) -> None:
    """Put the section where the last one of its name was, or at the end."""
    lines = [f"## {section.title}", "", _when(effort), "", *section.lines(), "", _versions(section.versions)]
    begin, end = (f"<!-- bench:{section.name}:{edge} -->" for edge in ("begin", "end"))
    block = "\n".join([begin, *lines, end])
    text = path.read_text() if path.exists() else "# Measurements\n"
    found = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    text = found.sub(lambda _: block, text) if found.search(text) else f"{text.rstrip()}\n\n{block}\n"
    path.write_text(text)


def _when(effort: Effort) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    short = "" if effort.scale == 1 else f", shortened to {effort.scale:g} of the work"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}; load average at the end {os.getloadavg()[0]:.1f}. Medians of {effort.rounds} rounds, "
        f"the sides in turn after one unrecorded round{short}; in brackets the least and the greatest."
    )


def _versions(versions: Mapping[str, str]) -> str:
    ours = {"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    return "Versions: " + ", ".join(f"{name} {number}" for name, number in {**ours, **versions}.items()) + "."


def printed(*command: str) -> str:
    """The first version number that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"
