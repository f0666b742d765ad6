"""Each process writes its log to a file of its own, and the terminal stays calm."""

import json
from pathlib import Path
from typing import BinaryIO

KEEP_BYTES = 10_000_000
_TAIL_BYTES = 131_072  # mongod writes its stack after its last words
_SHOWN_LINES = 5


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to; one that has grown large becomes `<name>.log.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > KEEP_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def last_words(path: Path, start: int) -> str:
    """Why a process ended, as far as the whole lines tell that it wrote from byte `start` on; else nothing.

    A process that ends before its logging is set up says why in plain lines, or in a traceback, whose last line counts.
    """
    first = max(start, path.stat().st_size - _TAIL_BYTES)
    with path.open("rb") as file:
        file.seek(first)
        if first > start:
            file.readline()  # the end of a line that began before
        lines = [line for line in file.read().decode(errors="replace").splitlines(keepends=True) if line.strip()]
    lines = [line.rstrip() for line in lines if line.endswith("\n")]
    plain = [line for line in lines if not line.startswith("{")]
    if any(line.startswith("Traceback ") for line in plain):
        return plain[-1]
    if plain:
        return " ".join(plain[-_SHOWN_LINES:])
    return _last_error(lines)


def _last_error(lines: list[str]) -> str:
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:  # cut short
            continue
        if event.get("s") in ("E", "F") and (detail := event["attr"].get("error")):  # mongod's
            return f"{event['msg']}: {detail}"
        if event.get("level") in ("error", "critical"):
            detail = str(event.get("exception") or event.get("error") or "").strip().rsplit("\n", 1)[-1]
            return f"{event.get('action')}: {detail}" if detail else str(event.get("action"))
    return ""
