"""A run that tries every system call there is on a process and on files that aren't its own.

It is a program, `python -m tests.support.every_call alone|programs VICTIM OUTSIDE READABLE FOLDER`, and ends when all
are tried: `VICTIM` is a process id, `OUTSIDE` a folder with a file `secret`, `READABLE` a file that runs may read.

The kernel's list is all numbers, of the calls that there are now and of those to come: nobody has to say which of them
take a process id or a path. Each number has a process of its own, confined as a run's is, which puts the victim's id,
paths and an open file at each place where calls have them, with many values for what comes before and after.
"""

import ctypes
import errno
import itertools
import mmap
import os
import select
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from services.processor.child import calls
from services.processor.child.confinement import Confinement, Protection, Resources, confine

NUMBERS = range(600)
_STUCK_SECONDS = 1
_RESOURCES = Resources(memory_bytes=2**30, cpu_seconds=60, file_bytes=2**20, open_files=64)
_SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
_SYSCALL.argtypes = [ctypes.c_long] * 7

_OPEN = 3  # the first descriptor that is free once a run is confined
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_O_TRUNC = os.O_WRONLY | os.O_TRUNC
_PTRACE_ATTACH, _SCHED_BATCH, _IOPRIO_IDLE = 16, 3, 3 << 13
_SET_FLAGS, _SET_XATTR, _SET_VERSION = 0x40086602, 0x401C5820, 0x40087602  # FS_IOC_…

_SLOT = 512
_MEMORY = ctypes.create_string_buffer(8 * _SLOT)
ZEROS, ONES, ATTRIBUTES, LABEL, LABEL_ARGUMENTS, FOLDER, SECRET, NEW = (
    ctypes.addressof(_MEMORY) + slot * _SLOT for slot in range(8)
)
"""Addresses: structures that fit many calls, then paths."""


def memory(outside: Path) -> bytes:
    """What is at these addresses."""
    contents = (
        b"",
        struct.pack("=Q", 1) * 32,  # limits, times, a set of cores
        struct.pack("=II", 48, _SCHED_BATCH),  # struct sched_attr
        b"user.mine",
        struct.pack("=QII", ONES, 8, 0),  # struct xattr_args
        *(os.fsencode(outside / name) for name in (".", "secret", "new")),
    )
    return b"".join(content.ljust(_SLOT, b"\0") for content in contents)


def arguments(victim: int) -> Iterator[tuple[int, ...]]:
    """Those to try with each call. What names the victim comes first, since other values may be ids of the caller,
    which then ends itself."""
    values: tuple[int, ...] = (0, 1, 2, _SCHED_BATCH, _PTRACE_ATTACH, _IOPRIO_IDLE, ZEROS, ONES, ATTRIBUTES)
    for others in itertools.product(values, repeat=2):
        yield (victim, victim, *others, 0, 0)
    for place in range(3):
        for others in itertools.product(values, repeat=3):
            yield (*others[:place], victim, *others[place:], 0, 0)
    values = (0, 1, 16, _O_TRUNC, LABEL, ONES, LABEL_ARGUMENTS)
    for path in (SECRET, FOLDER, NEW):
        for others in itertools.product(values, repeat=3):
            yield (path, *others, 0, 0)
            yield (_AT_FDCWD, path, *others, 0)
        for others in itertools.product(values, repeat=2):
            yield (path, NEW, *others, 0, 0)
            yield (NEW, path, *others, 0, 0)
            yield (_AT_FDCWD, path, _AT_FDCWD, NEW, *others)
            yield (_AT_FDCWD, path, 0, *others, 16)
    # What is open, by itself and as the place that an empty path leads from.
    for others in itertools.product((*values, ZEROS), repeat=3):
        yield (_OPEN, *others, 0, 0)
        yield (_OPEN, ZEROS, *others[:2], _AT_EMPTY_PATH, 0)
    for command in (*range(20), _SET_FLAGS, _SET_XATTR, _SET_VERSION):
        for argument in (victim, ZEROS, ONES, ATTRIBUTES):
            yield (_OPEN, command, argument, 0, 0, 0)


def main(kind: str, victim: str, outside: str, readable: str, folder: str) -> None:
    confinement = Confinement(frozenset(Protection), (readable, sys.prefix), programs=kind == "programs")
    tries, laid = list(arguments(int(victim))), memory(Path(outside))
    calls.program(network=False, programs=confinement.programs)  # made once, as by the fork server
    for number in NUMBERS:
        tried = mmap.mmap(-1, 8)
        child = os.fork()
        if child == 0:
            try:
                _attempt(number, tries, laid, confinement, Path(folder, str(number)), tried)
            finally:
                os._exit(1)
        _see_to_its_end(child, tried)


def _attempt(
    number: int,
    tries: list[tuple[int, ...]],
    laid: bytes,
    confinement: Confinement,
    folder: Path,
    tried: mmap.mmap,
) -> None:
    work = folder / "work"
    work.mkdir(parents=True)
    confine(folder, work, [], _RESOURCES, confinement)
    assert os.open(confinement.readable[0], os.O_RDONLY) == _OPEN
    os.dup2(_OPEN, 0)  # in place of a device, which is everybody's
    # What isn't there, waits, or starts processes, again and again has no more to tell.
    told: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: told.append(errno.ECHILD))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    own = os.getpid()
    for count, each in enumerate(tries, 1):
        ctypes.memmove(_MEMORY, laid, len(laid))  # calls write there
        if _SYSCALL(number, *each) == -1 and (error := ctypes.get_errno()) in (errno.ENOSYS, errno.EINTR):
            told.append(error)
        tried[:8] = struct.pack("=Q", count)
        if len(told) > 3 or os.getpid() != own:
            break
    os._exit(0)


def _see_to_its_end(child: int, tried: mmap.mmap) -> None:
    ended = os.pidfd_open(child)
    seen = b""
    while not select.select([ended], [], [], _STUCK_SECONDS)[0]:
        if tried[:8] == seen:
            os.kill(child, signal.SIGKILL)
        seen = tried[:8]
    os.close(ended)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
