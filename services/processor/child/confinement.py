"""What a run's process may do. The process confines itself, before anything of the run is touched.

Which means there are differs from machine to machine: the sandbox tries them once, at the start, and each run then has
to have those that worked.
"""

import contextlib
import errno
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from services.processor.child.kernel import landlock, seccomp, syscalls
from services.processor.child.kernel.seccomp import Compare, Refusal

PRINTED_FILE = "printed"

_MOST_LIKELY_TO_BE_KILLED = "1000"
# Of the system: libraries, fonts, time zones, names, trusted certificates. Nothing that may hold a secret.
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/var/cache/fontconfig"),
    *(f"/etc/{name}" for name in ("fonts", "localtime", "timezone", "mime.types", "magic", "passwd", "group")),
    *(f"/etc/{name}" for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl/openssl.cnf", "ssl/certs")),
    *(f"/etc/{name}" for name in ("ca-certificates", "pki/ca-trust/extracted", "pki/tls/certs")),
    *(f"/etc/{name}" for name in ("nsswitch.conf", "resolv.conf", "hosts", "host.conf", "gai.conf", "services")),
    *("/dev/random", "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")

_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16  # the last one is how names are looked up
_CLONE_THREAD, _CLONE_NEWUSER = 0x10000, 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_INT = 0xFFFFFFFF  # the kernel reads the lower half of an argument that is an int

# What no processor needs, and what leads out of the limits: into other processes, into the kernel, or to memory and
# sessions that would outlive the run.
_NEVER = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "keyctl", "add_key", "request_key"),
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsmount", "mount_setattr"),
    *("unshare", "setns", "open_by_handle_at", "personality", "acct", "quotactl", "swapon", "swapoff", "reboot"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "settimeofday", "clock_settime"),
    *("memfd_create", "memfd_secret", "shmget", "semget", "msgget", "mq_open", "setsid", "setpgid"),
)
# What changes a file by its path or by a descriptor that may only read: Landlock doesn't see it.
_CHANGING_FILES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "file_setattr"),
    *(
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "setxattrat",
        "removexattr",
        "lremovexattr",
        "fremovexattr",
        "removexattrat",
    ),
)
_CHANGING_TIMES = ("utime", "utimes", "futimesat", "utimensat")
# What changes another process of the same user, and which argument names it; 0 is the caller.
_CHANGING_PROCESSES = (
    *(("prlimit64", 0), ("sched_setaffinity", 0), ("sched_setparam", 0), ("sched_setscheduler", 0)),
    *(("sched_setattr", 0), ("setpriority", 1), ("ioprio_set", 1), ("migrate_pages", 0), ("move_pages", 0)),
)
_SIGNALLING = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")


class Protection(StrEnum):
    """A means of the kernel's that a machine may lack."""

    LANDLOCK = "landlock"
    SECCOMP = "seccomp"


MEANING = {
    Protection.LANDLOCK: "runs can read and write every file that the processor's user can",
    Protection.SECCOMP: "runs can open connections and start processes",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one run's process may use: bytes of address space and of one file, seconds of CPU, open files."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    open_files: int


@dataclass(frozen=True, slots=True)
class Confinement:
    """`protections` are those to use, `readable` what may be read beside the system and the run's own folder."""

    protections: frozenset[Protection]
    readable: tuple[str, ...]
    network: bool = False
    programs: bool = False


def confine(folder: Path, work: Path, written: Iterable[str], resources: Resources, confinement: Confinement) -> None:
    """Confine this process to a run's `folder`, where it may write the files `written`, and in `work`, its current
    folder, whatever it likes. Raises `OSError` where a protection that it should have can't be had."""
    _detach(folder)
    files = [folder / name for name in written]
    for file in files:  # it can't make them later, nor put anything else in their place
        file.touch(mode=0o600)
    os.environ.update(_environment(work))
    tempfile.tempdir = str(work)
    os.umask(0o077)
    os.chdir(work)
    _limit(resources)
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # none in some containers
        Path("/proc/self/oom_score_adj").write_text(_MOST_LIKELY_TO_BE_KILLED)
    syscalls.die_with_parent(signal.SIGKILL)
    syscalls.adopt_orphans()
    syscalls.give_up_privileges()
    if Protection.LANDLOCK in confinement.protections:
        landlock.restrict(_allowed(folder, work, files, confinement))
    if Protection.SECCOMP in confinement.protections:
        seccomp.restrict(_refusals(confinement))


def try_out(protection: Protection) -> None:
    """Ends this process: with 0 if the machine has this protection."""
    try:
        syscalls.give_up_privileges()
        if protection is Protection.LANDLOCK:
            landlock.restrict([("/", landlock.READ)])
        else:
            seccomp.restrict(_refusals(Confinement(frozenset(), ())))
    except (OSError, AttributeError):
        os._exit(1)
    os._exit(0)


def python_paths() -> tuple[str, ...]:
    """Where the interpreter, the installed packages and the modules imported so far are. Not the folders that those
    modules were found in: the current one may hold anything."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    found |= {entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    for name, module in list(sys.modules.items()):
        if "." not in name:
            found |= set(getattr(module, "__path__", ())) or {getattr(module, "__file__", None) or ""}
    outermost: list[Path] = []
    for path in sorted(Path(path).resolve() for path in found if path):
        if not (outermost and path.is_relative_to(outermost[-1])):
            outermost.append(path)
    return tuple(map(str, outermost))


def _detach(folder: Path) -> None:
    """A session of its own, which nobody else's signals reach, and nothing open that was open before."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Sent to all processes of a service or a terminal when it is to stop. What stops this one is SIGKILL.
        signal.signal(number, signal.SIG_IGN)
    # Python ignores this one; by default it ends the process, which is how the parent learns of the limit.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    printed = os.open(folder / PRINTED_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(source, target)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _environment(work: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    os.environ.clear()
    return {**kept, "TMPDIR": str(work), "HOME": str(work)}


def _limit(resources: Resources) -> None:
    # Past the soft limit comes SIGXCPU, which shows the reason; a child that ignores it meets the hard one.
    set_limit(resource.RLIMIT_CPU, resources.cpu_seconds, resources.cpu_seconds + 5)
    for what, most in (
        (resource.RLIMIT_AS, resources.memory_bytes),
        (resource.RLIMIT_FSIZE, resources.file_bytes),
        (resource.RLIMIT_NOFILE, resources.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        set_limit(what, most, most)


def set_limit(what: int, soft: int, hard: int) -> None:
    """The system's own limit holds where it is lower: nobody but root can raise it."""
    _, highest = resource.getrlimit(what)
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    resource.setrlimit(what, (soft, hard))


def _allowed(
    folder: Path, work: Path, files: Iterable[Path], confinement: Confinement
) -> Iterator[tuple[Path | str, int]]:
    read = landlock.READ
    if confinement.programs:
        read |= landlock.EXECUTE
        yield "/proc", landlock.READ  # other processes' secrets stay closed: see `landlock`
    for path in (*_SYSTEM, *confinement.readable):
        yield path, read
    for device in _DEVICES:
        yield device, landlock.READ_FILE | landlock.WRITE_FILE
    yield folder, landlock.READ
    for file in files:
        yield file, landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE
    yield work, landlock.READ_AND_WRITE


def _refusals(confinement: Confinement) -> Iterable[Refusal]:
    yield from (Refusal(call) for call in (*_NEVER, *_CHANGING_FILES))
    for call, argument in _CHANGING_PROCESSES:
        yield Refusal(call, argument=argument, compare=Compare.NE, value=0)
    # The flags of this one are out of a filter's sight; without it, libc calls `clone`.
    yield Refusal("clone3", errno.ENOSYS)
    yield Refusal("clone", compare=Compare.MASKED_EQ, value=_CLONE_NEWUSER, masked=_CLONE_NEWUSER)
    yield Refusal("prctl", compare=Compare.MASKED_EQ, value=_INT, masked=_PR_SET_DUMPABLE)
    if not confinement.programs:
        yield Refusal("prctl", compare=Compare.MASKED_EQ, value=_INT, masked=_PR_SET_PDEATHSIG)
        yield from (Refusal(call) for call in ("fork", "vfork", "pidfd_send_signal", *_CHANGING_TIMES))
        yield Refusal("clone", compare=Compare.MASKED_EQ, value=_CLONE_THREAD, masked=0)
        yield from (Refusal(call, compare=Compare.NE, value=os.getpid()) for call in _SIGNALLING)
    if not confinement.network:
        yield Refusal("socket", errno.EACCES)
    else:
        yield Refusal("socket", errno.EACCES, compare=Compare.GT, value=_AF_NETLINK)
        for family in set(range(_AF_NETLINK)) - {_AF_INET, _AF_INET6}:
            yield Refusal("socket", errno.EACCES, compare=Compare.EQ, value=family)
