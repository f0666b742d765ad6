"""seccomp: a process gives up, for good, all system calls that it isn't left. By libseccomp, which knows their numbers
on each architecture.

libseccomp is part of most distributions, for package managers, systemd and container runtimes need it. Its binding on
PyPI hasn't been kept for years, so its functions are called by ctypes. Source: seccomp_rule_add(3), seccomp(2).
"""

import ctypes
import errno
import os
import struct
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from services.processor.child.kernel import syscalls

OWN_PID = 0x5AFEC0DE
"""Stands in a program for the id of the process that loads it. It is larger than any id."""

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_UNKNOWN_CALL = -1
_OPTIMIZE = 8  # an attribute: of its values, 2 is a binary tree instead of a list
_MASKED_EQ = 7  # of `enum scmp_compare`
_INSTRUCTION_BYTES = 8
_AFTER_ALL = 700  # there are less than 500, after some decades


@dataclass(frozen=True, slots=True)
class Check:
    """What the argument number `argument` has to be: `argument & mask == value`. By default the lower half is compared,
    which is what the kernel reads of an int."""

    argument: int
    value: int
    mask: int = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Allowed:
    """A system call that may be made; with checks, only where all of them fit."""

    call: str
    checks: tuple[Check, ...] = ()


class _Argument(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("compare", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("masked", ctypes.c_uint64),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@cache
def _library() -> ctypes.CDLL:
    found = ctypes.CDLL(_LIBRARY)
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = (ctypes.c_uint32,)
    found.seccomp_arch_native.restype = ctypes.c_uint32
    found.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    found.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    found.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)
    found.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    found.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Argument),
    )
    found.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    found.seccomp_release.argtypes = (ctypes.c_void_p,)
    found.seccomp_release.restype = None
    return found


def known() -> dict[int, str]:
    """The numbers and names of this architecture's system calls, as far as libseccomp has them. Raises `OSError` where
    there is none."""
    library = _library()
    architecture = library.seccomp_arch_native()
    names = {number: library.seccomp_syscall_resolve_num_arch(architecture, number) for number in range(_AFTER_ALL)}
    return {number: name.decode() for number, name in names.items() if name}


def program(allowed: Iterable[Allowed], errors: Mapping[str, int]) -> bytes:
    """A filter that leaves a process these calls, for `load`. Others fail as `errors` says, by default with EPERM, and
    those that libseccomp has no name for with ENOSYS, so that a newer C library does without them. Another
    architecture's calls end the process. A name that the architecture doesn't have is passed over. Raises `OSError`
    where there is no libseccomp."""
    library = _library()
    context = library.seccomp_init(_ERRNO | errno.EPERM)
    if not context:
        raise OSError(errno.ENOMEM, "seccomp_init")
    try:
        library.seccomp_attr_set(context, _OPTIMIZE, 2)  # older ones don't have it, and are only slower
        for each in allowed:
            _add(context, _ALLOW, each.call, each.checks)
        for call, error in errors.items():
            _add(context, _ERRNO | error, call)
        for number in set(range(_AFTER_ALL)) - known().keys():
            _check(library.seccomp_rule_add_array(context, _ERRNO | errno.ENOSYS, number, 0, None), str(number))
        with tempfile.TemporaryFile(buffering=0) as file:
            _check(library.seccomp_export_bpf(context, file.fileno()), "seccomp_export_bpf")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def load(instructions: bytes) -> None:
    """Take a filter of `program` upon this process, and what it starts. `give_up_privileges` comes first. Raises
    `OSError`."""
    own = instructions.replace(struct.pack("=I", OWN_PID), struct.pack("=I", os.getpid()))
    syscalls.filter_calls(_Program(len(own) // _INSTRUCTION_BYTES, own))


def _add(context: int, action: int, call: str, checks: tuple[Check, ...] = ()) -> None:
    number = _library().seccomp_syscall_resolve_name(call.encode())
    if number == _UNKNOWN_CALL:
        return
    arguments = (_Argument * len(checks))(
        *(_Argument(check.argument, _MASKED_EQ, check.mask, check.value) for check in checks)
    )
    _check(_library().seccomp_rule_add_array(context, action, number, len(checks), arguments), call)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp: {what}")
