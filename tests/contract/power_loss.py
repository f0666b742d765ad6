"""What a POSIX file system may keep of a folder when the power goes: the calls that changed it are written down, and
every state that they may have left is made again.

The model is that of ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014), with nothing assumed
of the file system in use: only fsync orders anything. Bytes written since the last fsync of their file may be missing,
torn, or zeros of the right length; a name given or taken since the last fsync of its folder may be lost, whatever
became of other names; a folder whose own name is lost is lost with all that is in it.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import pytest

from services.blob.adapters.filesystem.folder import Disk


@dataclass(frozen=True)
class Made:
    """A folder was made."""

    path: Path


@dataclass(frozen=True)
class Named:
    """A file got a name, its first or another."""

    path: Path
    file: int


@dataclass(frozen=True)
class Unnamed:
    """A file lost a name."""

    path: Path


@dataclass(frozen=True)
class Wrote:
    """Bytes went to a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Synced:
    """A file (by number) or a folder was seen to disk."""

    what: int | Path


@dataclass(frozen=True)
class Promised:
    """From here on a blob is there with these bytes, is gone (None), or may be either (...)."""

    blob_id: str
    content: Any


Step = Made | Named | Unnamed | Wrote | Synced | Promised
State = dict[Path, bytes | None]
"""Files with their bytes, and folders with None, by path."""


class Recorder:
    """Writes down what is done to the files below a folder; `disk` is to be used there."""

    def __init__(self, below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[Step] = []
        self.disk = Disk(write=self._write, fsync=self._fsync)
        self._below = below
        self._numbers: dict[int, int] = {}  # by inode, whose numbers the file system uses again
        mkdir, open_, link, unlink = os.mkdir, os.open, os.link, os.unlink

        def recorded_mkdir(path: Path, *args: Any, **options: Any) -> None:
            mkdir(path, *args, **options)
            self.steps.append(Made(self._relative(path)))

        def recorded_open(path: Path, flags: int, *args: Any, **options: Any) -> int:
            fd = open_(path, flags, *args, **options)
            if flags & os.O_CREAT:
                number = self._numbers[os.fstat(fd).st_ino] = len(self.steps)
                self.steps.append(Named(self._relative(path), number))
            return fd

        def recorded_link(source: Path, target: Path, **options: Any) -> None:
            link(source, target, **options)
            self.steps.append(Named(self._relative(target), self._numbers[Path(target).stat().st_ino]))

        def recorded_unlink(path: Path, **options: Any) -> None:
            unlink(path, **options)
            self.steps.append(Unnamed(self._relative(path)))

        monkeypatch.setattr(os, "mkdir", recorded_mkdir)
        monkeypatch.setattr(os, "open", recorded_open)
        monkeypatch.setattr(os, "link", recorded_link)
        monkeypatch.setattr(os, "unlink", recorded_unlink)

    def promise(self, blob_id: str, content: Any) -> None:
        self.steps.append(Promised(blob_id, content))

    def _relative(self, path: Path) -> Path:
        return Path(path).relative_to(self._below)

    def _write(self, fd: int, data: memoryview) -> int:
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        written = os.write(fd, data)
        self.steps.append(Wrote(self._numbers[os.fstat(fd).st_ino], offset, bytes(data[:written])))
        return written

    def _fsync(self, fd: int) -> None:
        status = os.fstat(fd)
        folder = S_ISDIR(status.st_mode)
        path = Path(f"/proc/self/fd/{fd}").readlink()
        self.steps.append(Synced(self._relative(path) if folder else self._numbers[status.st_ino]))


def after_power_loss(steps: Sequence[Step]) -> Iterator[tuple[State, dict[str, Any]]]:
    """Every state, once, that the loss of power at any moment of `steps` may leave; with what was promised by then."""
    seen = set()
    for end in range(len(steps) + 1):
        done = steps[:end]
        promises = {step.blob_id: step.content for step in done if isinstance(step, Promised)}
        for chosen in itertools.product(*(_outcomes(step, done[at + 1 :]) for at, step in enumerate(done))):
            state = applied([step for step in chosen if step is not None])
            key = (frozenset(state.items()), tuple(promises.items()))
            if key not in seen:
                seen.add(key)
                yield state, promises


def _outcomes(step: Step, later: Sequence[Step]) -> list[Step | None]:
    """What may have become of a step; None for no trace of it."""
    match step:
        case Made(path) | Named(path) | Unnamed(path):
            return [step] if Synced(path.parent) in later else [step, None]
        case Wrote(file, offset, data):
            if Synced(file) in later:
                return [step]
            half, zeros = len(data) // 2, bytes(len(data))
            torn = [data[:half], zeros, zeros[:half] + data[half:]]
            return [step, None, *(Wrote(file, offset, kept) for kept in torn)]
        case _:
            return [None]


def applied(steps: Sequence[Step]) -> State:
    """What is there after these steps."""
    contents: dict[int, bytes] = {}
    names: dict[Path, int | None] = {}
    for step in steps:
        match step:
            case Made(path):
                names[path] = None
            case Named(path, number):
                names[path] = number
            case Unnamed(path):
                names.pop(path, None)
            case Wrote(file, offset, data):
                old = contents.get(file, b"").ljust(offset, b"\0")
                contents[file] = old[:offset] + data + old[offset + len(data) :]
    reachable = {path for path in names if all(parent in names for parent in path.parents[:-1])}
    return {path: None if (named := names[path]) is None else contents.get(named, b"") for path in reachable}


def on_disk(below: Path) -> State:
    """What is really there."""
    return {path.relative_to(below): None if path.is_dir() else path.read_bytes() for path in sorted(below.rglob("*"))}


def make(below: Path, state: State) -> None:
    for path in sorted(state):
        content = state[path]
        if content is None:
            (below / path).mkdir(parents=True)
        else:
            (below / path).write_bytes(content)
