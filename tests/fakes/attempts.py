"""What a hostile processor would try, to get out of its sandbox. Each attempt says what came of it."""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from services.processor.child.kernel import seccomp

_CLONE_PARENT = 0x8000


def make(target: str) -> dict[str, str]:
    """`target` is `<folder>:<pid>`: a folder that isn't the run's and holds `secret`, and the processor's id."""
    folder, _, pid = target.partition(":")
    return {name: _outcome(attempt, Path(folder), int(pid)) for name, attempt in ATTEMPTS.items()}


def _outcome(attempt: Callable[[Path, int], object], folder: Path, pid: int) -> str:
    try:
        return f"done: {attempt(folder, pid)}"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
        return repr(error)


def _fork(_folder: Path, _pid: int) -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)


def _open_files(_folder: Path, _pid: int) -> object:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # what was open to list them
            found.append(f"{entry.name} {entry.readlink().name}")
    return sorted(found)


def _libc(call: str, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = getattr(libc, call)(*map(ctypes.c_long, arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), call)
    return found


def _beside(_folder: Path, _pid: int) -> object:
    """A child of its parent's."""
    clone = {name: number for number, name in seccomp.known().items()}["clone"]
    child = _libc("syscall", clone, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child


def _thread(_folder: Path, _pid: int) -> list[int]:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    return done


def _shared_memory(_folder: Path, _pid: int) -> object:
    found = _libc("shmget", 0, mmap.PAGESIZE, 0o1600)
    return _libc("shmctl", found, 0, 0)


def _temporary(_folder: Path, _pid: int) -> object:
    with tempfile.NamedTemporaryFile() as file:
        return Path(file.name).parent == Path.cwd()


def _raise_limit(_folder: Path, _pid: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


ATTEMPTS: dict[str, Callable[[Path, int], object]] = {
    "read a secret": lambda folder, _: (folder / "secret").read_text(),
    "list a folder": lambda folder, _: os.listdir(folder),  # noqa: PTH208
    "overwrite a file": lambda folder, _: (folder / "secret").write_text("mine"),
    "make a file": lambda folder, _: (folder / "new").write_text("mine"),
    "remove a file": lambda folder, _: (folder / "secret").unlink(),
    "make a file beside its folder": lambda _, __: Path("../beside").write_text("mine"),
    "rename its folder": lambda _, __: Path.cwd().rename(Path.cwd().with_name("elsewhere")),
    "replace the result": lambda _, __: Path("../result.json").unlink(),
    "change the mode of a secret": lambda folder, _: (folder / "secret").chmod(0o666),
    "change the owner of a secret": lambda folder, _: os.chown(folder / "secret", os.getuid(), os.getgid()),
    "label a secret": lambda folder, _: os.setxattr(folder / "secret", "user.mine", b"x"),
    "read a label of a secret": lambda folder, _: os.getxattr(folder / "secret", "user.mine"),
    "change the times of a secret": lambda folder, _: os.utime(folder / "secret", (0, 0)),
    "watch a folder": lambda _, __: _libc("inotify_init"),
    "limit the processor": lambda _, pid: resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8)),
    "slow the processor down": lambda _, pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "bind the processor to a core": lambda _, pid: os.sched_setaffinity(pid, {0}),
    "link a secret": lambda folder, _: Path("link").hardlink_to(folder / "secret"),
    "read the processor's environment": lambda _, pid: Path(f"/proc/{pid}/environ").read_bytes(),
    "read the processor's memory": lambda _, pid: Path(f"/proc/{pid}/mem").open("rb").close(),
    "see the processor's files": lambda _, pid: Path(f"/proc/{pid}/fd/0").readlink(),
    "stop the processor": lambda _, pid: os.kill(pid, signal.SIGSTOP),
    "have the processor signalled": lambda _, pid: fcntl.fcntl(0, fcntl.F_SETOWN, pid),
    "see that the processor is there": lambda _, pid: Path(f"/proc/{pid}").stat(),
    "signal everybody": lambda _, __: os.kill(-1, 0),
    "leave its session": lambda _, __: os.setsid(),
    "fork": _fork,
    "start a process beside itself": _beside,
    "start a program": lambda _, __: subprocess.run(["/bin/true"], check=True).returncode,
    "open a connection": lambda _, __: socket.socket().close(),
    "look up a name": lambda _, __: len(socket.getaddrinfo("localhost", 80)) > 0,
    "open a Unix socket": lambda _, __: socket.socket(socket.AF_UNIX).close(),
    "make a pair of sockets": lambda _, __: len(socket.socketpair()),
    "make sockets that reach others": lambda _, __: len(socket.socketpair(type=socket.SOCK_DGRAM)),
    "keep memory beyond its end": _shared_memory,
    "keep memory out of sight": lambda _, __: os.memfd_create("hidden"),
    "raise a limit": _raise_limit,
    "become somebody else": lambda _, __: os.setuid(os.getuid() + 1),
    "list what is open": _open_files,
    "start a thread": _thread,
    "write a temporary file": _temporary,
    "read a library": lambda _, __: len(Path(os.__file__).read_text()) > 0,
    "read its environment": lambda _, __: sorted(os.environ),
}
