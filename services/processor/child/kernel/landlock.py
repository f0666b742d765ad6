"""Landlock: a process gives up, for good, the rights to files that it isn't left explicitly (Linux 5.13).

It needs no privilege, and common container runtimes let it through. Whoever is confined can't look into processes
outside either (`/proc/<pid>/environ`, ptrace), nor, from Linux 6.12 on, send them signals.

Source: the kernel's Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from services.processor.child.kernel import syscalls

# These numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
TRUNCATE = 1 << 14
SEES_TRUNCATE = 3
"""From this version on."""
_IOCTL_DEV = 1 << 15  # from version 5 on
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | _IOCTL_DEV
_SCOPES = 0b11  # abstract Unix sockets, signals; from version 6 on
_BITS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15}
_BITS = 16

READ = READ_FILE | READ_DIR
READ_AND_WRITE = ((1 << _BITS) - 1) & ~(EXECUTE | _IOCTL_DEV | _MAKE_CHAR | _MAKE_BLOCK)
"""Everything with files and folders, except to start programs and to make devices."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Which version of Landlock the kernel has; 0 for none, or none that we may use."""
    try:
        return syscalls.call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    except OSError:
        return 0


def restrict(allowed: Iterable[tuple[Path | str, int]]) -> None:
    """Leave this process, and what it starts, only these rights to these paths and what is under them. Paths that
    aren't there are passed over. `give_up_privileges` comes first. Raises `OSError` where there is no Landlock."""
    known = version()
    handled = (1 << _BITS_BY_VERSION.get(known, _BITS)) - 1
    attributes = _Ruleset(handled, 0, _SCOPES if known >= 6 else 0)
    ruleset = syscalls.call(
        _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), ctypes.c_uint32(0)
    )
    try:
        for path, rights in allowed:
            _allow(ruleset, path, rights & handled)
        syscalls.call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path | str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, opened)
        syscalls.call(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(opened)
