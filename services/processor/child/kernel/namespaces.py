"""Namespaces: a process sees and signals none but those that it has started, and all of them end with it.

Whoever may make a user namespace has in it the right to make the others. Common container runtimes refuse that, and so
do some distributions. Source: user_namespaces(7), pid_namespaces(7).
"""

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import NoReturn

from services.processor.child.kernel import syscalls

_NEWNS, _NEWUSER, _NEWPID = 0x20000, 0x10000000, 0x20000000
_VERSION = re.compile(r"(\d+)\.(\d+)")

WAITING_PROCESSES = 2
"""How many processes `enter` leaves waiting: the caller, and its first child."""


def enter() -> None:
    """Go on in a child of this process, in a user, a pid and a mount namespace of its own, with a `/proc` of these
    processes alone. This process waits for that child, and ends as it does. Raises `OSError` where the kernel refuses.
    """
    user, group = os.getuid(), os.getgid()
    syscalls.unshare(_NEWUSER | _NEWPID | _NEWNS)
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", name).write_text(line)
    first = os.fork()
    if first == 0:
        _be_the_first()
    child = os.fork()
    if child != 0:
        _end_as(child, first)
    syscalls.die_with_parent(signal.SIGKILL)
    syscalls.mount_proc()


def counts_processes() -> bool:
    """Whether `RLIMIT_NPROC` is for the processes and threads of a user namespace, and not for all of its user's: from
    Linux 5.14 on."""
    version = _VERSION.match(os.uname().release)
    return version is not None and (int(version[1]), int(version[2])) >= (5, 14)


def _be_the_first() -> NoReturn:
    """The namespace lasts as long as its first process. That one isn't the run's: no signal ends it, unless it comes
    from outside, and a run that aborts or meets a limit ends by a signal."""
    syscalls.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what is left to it doesn't stay
    while True:
        signal.pause()


def _end_as(child: int, first: int) -> NoReturn:
    _, status = os.waitpid(child, 0)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)  # which ends after all others in the namespace
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no other action
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
