"""Which system calls a run may make: a list of what is allowed, and of what some arguments have to be.

What no processor needs isn't in it, and what leads out of a run: to other processes and their limits, to what is known
of a file apart from its content (Landlock doesn't see that), to memory and sessions that would outlive the run, into
the kernel. Calls that only compute, wait, or work on files that Landlock lets them open are all there.
"""

import errno
from collections.abc import Iterator
from functools import cache

from services.processor.child.kernel import landlock, seccomp
from services.processor.child.kernel.seccomp import OWN_PID, Allowed, Check

_FILES = (
    *("read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek"),
    *("open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "umask"),
    *("sendfile", "splice", "tee", "vmsplice", "copy_file_range", "flock", "fsync", "fdatasync", "sync_file_range"),
    *("stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2"),
    *("ftruncate", "fallocate", "fadvise64", "readahead", "cachestat", "getdents", "getdents64", "getcwd"),
    *("chdir", "fchdir", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "rename", "renameat", "renameat2"),
    *("link", "linkat", "unlink", "unlinkat", "symlink", "symlinkat", "readlink", "readlinkat"),
    *("fgetxattr", "flistxattr", "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents"),
)
_MEMORY = (
    *("brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "mincore", "mseal", "membarrier"),
    *("mlock", "mlock2", "mlockall", "munlock", "munlockall", "pkey_alloc", "pkey_free", "pkey_mprotect"),
    *("get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "map_shadow_stack"),
)
_TIME = (
    *("nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "times", "alarm"),
    *("getitimer", "setitimer", "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete"),
    *("timerfd_create", "timerfd_settime", "timerfd_gettime"),
)
_THREADS_AND_EVENTS = (
    *("futex", "futex_wait", "futex_wake", "futex_requeue", "futex_waitv", "set_robust_list", "set_tid_address"),
    *("rseq", "arch_prctl", "sched_yield", "restart_syscall", "exit", "exit_group", "wait4", "waitid", "getrusage"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait"),
    *("sigaltstack", "signalfd", "signalfd4", "pause", "eventfd", "eventfd2", "poll", "ppoll", "select", "pselect6"),
    *("epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2"),
)
# Numbers about any process are among them.
_ASKING = (
    *("uname", "sysinfo", "getcpu", "getrandom", "getpid", "getppid", "gettid", "getpgrp", "getpgid", "getsid"),
    *("getuid", "geteuid", "getresuid", "getgid", "getegid", "getresgid", "getgroups", "capget", "getrlimit"),
    *("getpriority", "ioprio_get", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_getattr"),
    *("sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval"),
)
# What binds a process more than it is already.
_BINDING = ("setrlimit", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
# On a pair of sockets, which any run may make, and on those of `network`.
_SOCKETS = (
    *("sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "shutdown"),
    *("getsockname", "getpeername", "getsockopt", "setsockopt"),
)
_NETWORK = ("connect", "bind", "listen", "accept", "accept4")
_PROGRAMS = ("fork", "vfork", "execve", "execveat", "pidfd_open", "pidfd_send_signal")
_SIGNALLING = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")

# The caller itself, by the process id 0 in this argument.
_OWN_SCHEDULING = ("prlimit64", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "sched_setattr")
_PRIO_PROCESS, _IOPRIO_WHO_PROCESS = 0, 1  # and not all processes of the user, whom 0 names too

_CLONE_THREAD = 0x10000
# Another parent than the caller, and the namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_CLONE_NEVER = 0x8000 | 0x20000 | 0x7E000000

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0  # by which names are looked up
_SOCK_TYPES = 0xF
_SOCK_STREAM, _SOCK_SEQPACKET = 1, 5  # the third one, of datagrams, reaches any socket by its path

# Without F_SETOWN, F_SETOWN_EX and F_SETSIG, which have the kernel send a signal to any process, and F_SETLEASE.
_FCNTL = (
    *range(8),  # F_DUPFD to F_SETLKW
    *(9, 11, 16),  # F_GETOWN, F_GETSIG, F_GETOWN_EX
    *(36, 37, 38),  # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
    *(1030, 1031, 1032, 1033, 1034),  # F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS
)
_IOCTL = (
    *(0x5401, 0x802C542A, 0x5413),  # TCGETS, TCGETS2, TIOCGWINSZ: whether it is a terminal
    *(0x541B, 0x5421, 0x5450, 0x5451),  # FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    *(0x40049409, 0x4020940D, 0xC020660B, 0x80086601),  # FICLONE, FICLONERANGE, FS_IOC_FIEMAP, FS_IOC_GETFLAGS
)
_IOCTL_NETWORK = (0x8910, 0x8933)  # SIOCGIFNAME, SIOCGIFINDEX
_PRCTL = (
    *(2, 3, 7, 15, 16, 21, 22, 23, 27),  # GET_PDEATHSIG, GET_DUMPABLE, GET_KEEPCAPS, NAME, SECCOMP, CAPBSET_READ, …
    *(29, 30, 36, 37, 38, 39, 41, 42, 47),  # TIMERSLACK, CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE, CAP_AMBIENT
    *(50, 51, 52, 53, 54, 55, 56, 60, 61, 63, 64),  # SVE, SPECULATION_CTRL, PAC, TAGGED_ADDR, SME
    *(65, 66, 0x53564D41, 0x41555856),  # MDWE, SET_VMA, GET_AUXV
)
_PR_SET_PDEATHSIG = 1

_LABELS_BY_PATH = ("getxattr", "lgetxattr", "listxattr", "llistxattr", "getxattrat", "listxattrat")
_ERRORS = {
    # The flags of this one are out of a filter's sight; without it, libc calls `clone`.
    "clone3": errno.ENOSYS,
    # Of files that the run may not read, too. `ls` and `cp` go on where there are no labels.
    **dict.fromkeys(_LABELS_BY_PATH, errno.EOPNOTSUPP),
}


@cache
def program(*, network: bool, programs: bool) -> bytes:
    """The filter of a processor of this kind. To make it takes longer than a run's process needs for the rest of its
    start, so the fork server makes it. Raises `OSError` where there is no libseccomp."""
    return seccomp.program(_allowed(network=network, programs=programs), _ERRORS)


def _allowed(*, network: bool, programs: bool) -> Iterator[Allowed]:
    for call in (*_FILES, *_MEMORY, *_TIME, *_THREADS_AND_EVENTS, *_ASKING, *_BINDING, *_SOCKETS):
        yield Allowed(call)
    if landlock.version() >= landlock.SEES_TRUNCATE:
        yield Allowed("truncate")
    for call in _OWN_SCHEDULING:
        yield Allowed(call, (Check(0, 0),))
    yield Allowed("setpriority", (Check(0, _PRIO_PROCESS), Check(1, 0)))
    yield Allowed("ioprio_set", (Check(0, _IOPRIO_WHO_PROCESS), Check(1, 0)))
    for kind in (_SOCK_STREAM, _SOCK_SEQPACKET):
        yield Allowed("socketpair", (Check(0, _AF_UNIX), Check(1, kind, _SOCK_TYPES)))
    for command in _FCNTL:
        yield Allowed("fcntl", (Check(1, command),))
    for request in (*_IOCTL, *(_IOCTL_NETWORK if network else ())):
        yield Allowed("ioctl", (Check(1, request),))
    for option in (*_PRCTL, *((_PR_SET_PDEATHSIG,) if programs else ())):
        yield Allowed("prctl", (Check(0, option),))
    yield from _of_network() if network else ()
    yield from _of_programs() if programs else _of_one_process()


def _of_network() -> Iterator[Allowed]:
    yield from map(Allowed, _NETWORK)
    for family in (_AF_INET, _AF_INET6):
        yield Allowed("socket", (Check(0, family),))
    yield Allowed("socket", (Check(0, _AF_NETLINK), Check(2, _NETLINK_ROUTE)))


def _of_programs() -> Iterator[Allowed]:
    yield from map(Allowed, (*_PROGRAMS, *_SIGNALLING))
    yield Allowed("clone", (Check(0, 0, _CLONE_NEVER),))
    # Without a path: of a file that is open, as `touch` and `cp -p` have it.
    yield Allowed("utimensat", (Check(1, 0, 0xFFFFFFFFFFFFFFFF),))


def _of_one_process() -> Iterator[Allowed]:
    for call in _SIGNALLING:
        yield Allowed(call, (Check(0, OWN_PID),))
    yield Allowed("clone", (Check(0, _CLONE_THREAD, _CLONE_NEVER | _CLONE_THREAD),))
