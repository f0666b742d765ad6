"""seccomp: a process gives up, for good, system calls. By libseccomp, which knows their numbers on each architecture.

libseccomp is part of most distributions, for package managers, systemd and container runtimes need it. Its binding on
PyPI hasn't been kept for years, so the four functions are called by ctypes. Source: seccomp_rule_add(3).
"""

import ctypes
import errno
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_UNKNOWN_CALL = -1
_OPTIMIZE = 8  # an attribute: of its values, 2 is a binary tree instead of a list


class Compare(IntEnum):
    """`enum scmp_compare`."""

    NE = 1
    LT = 2
    EQ = 4
    GT = 6
    MASKED_EQ = 7


@dataclass(frozen=True, slots=True)
class Refusal:
    """A system call that fails with `error`; with a comparison, only where its argument number `argument` fits it.

    `MASKED_EQ` compares `argument & value` with `masked`.
    """

    call: str
    error: int = errno.EPERM
    argument: int = 0
    compare: Compare | None = None
    value: int = 0
    masked: int = 0


class _Argument(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("compare", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("masked", ctypes.c_uint64),
    )


@cache
def library() -> ctypes.CDLL:
    """libseccomp. To load it takes longer than to use it. Raises `OSError` where there is none."""
    found = ctypes.CDLL(_LIBRARY)
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = (ctypes.c_uint32,)
    found.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    found.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    found.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Argument),
    )
    found.seccomp_load.argtypes = (ctypes.c_void_p,)
    found.seccomp_release.argtypes = (ctypes.c_void_p,)
    found.seccomp_release.restype = None
    return found


def restrict(refusals: Iterable[Refusal]) -> None:
    """Refuse these system calls to this process and what it starts. A call that the architecture doesn't have is passed
    over; another architecture's calls end the process. Raises `OSError` where it can't be done."""
    loaded = library()
    context = loaded.seccomp_init(_ALLOW)
    if not context:
        raise OSError(errno.ENOMEM, "seccomp_init")
    try:
        loaded.seccomp_attr_set(context, _OPTIMIZE, 2)  # older ones don't have it, and are only slower
        for refusal in refusals:
            _add(loaded, context, refusal)
        _check(loaded.seccomp_load(context), "seccomp_load")
    finally:
        loaded.seccomp_release(context)


def _add(loaded: ctypes.CDLL, context: int, refusal: Refusal) -> None:
    number = loaded.seccomp_syscall_resolve_name(refusal.call.encode())
    if number == _UNKNOWN_CALL:
        return
    arguments = (_Argument * 1)()
    if refusal.compare is not None:
        arguments[0] = _Argument(refusal.argument, refusal.compare, refusal.value, refusal.masked)
    count = 0 if refusal.compare is None else 1
    action = _ERRNO | refusal.error
    _check(loaded.seccomp_rule_add_array(context, action, number, count, arguments), refusal.call)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp: {what}")
