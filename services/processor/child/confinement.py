"""What a run's process may do. The process confines itself, before anything of the run is touched.

Which means there are differs from machine to machine: the sandbox tries them once, at the start, and each run then has
to have those that worked.
"""

import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from services.processor.child import calls
from services.processor.child.kernel import landlock, namespaces, seccomp, syscalls

PRINTED_FILE = "printed"

_MOST_LIKELY_TO_BE_KILLED = "1000"
# Processes and threads of a run with programs. It is watched that processes are far less, but not at every moment. For
# root the kernel keeps no such limit.
_MOST_TASKS = 1024
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


class Protection(StrEnum):
    """A means of the kernel's that a machine may lack."""

    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    NAMESPACES = "namespaces"


MEANING = {
    Protection.LANDLOCK: "runs can read and write every file that the processor's user can",
    Protection.SECCOMP: "runs can open connections and start processes",
    Protection.NAMESPACES: "runs with programs can see other processes, and start more than 64 before they are ended",
}
REQUIRED = (Protection.LANDLOCK, Protection.SECCOMP)
"""Of whoever asks for a strict sandbox. Containers rarely grant namespaces."""


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

    @property
    def namespaces(self) -> bool:
        """Whether the run has its own. One that can start nothing, and name no process but itself, needs none."""
        return self.programs and Protection.NAMESPACES in self.protections


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
    if confinement.namespaces:
        namespaces.enter()
        if namespaces.counts_processes():
            set_limit(resource.RLIMIT_NPROC, _MOST_TASKS, _MOST_TASKS)
    syscalls.adopt_orphans()
    syscalls.give_up_privileges()
    if Protection.LANDLOCK in confinement.protections:
        landlock.restrict(_allowed(folder, work, files, confinement))
    if Protection.SECCOMP in confinement.protections:
        seccomp.load(calls.program(network=confinement.network, programs=confinement.programs))


def try_out(protection: Protection) -> None:
    """Ends this process: with 0 if the machine has this protection."""
    try:
        if protection is Protection.NAMESPACES:
            namespaces.enter()
        syscalls.give_up_privileges()
        if protection is Protection.LANDLOCK:
            landlock.restrict([("/", landlock.READ)])
        elif protection is Protection.SECCOMP:
            seccomp.load(calls.program(network=False, programs=False))
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
