"""No system call of a run's reaches a process or a file that isn't its own, whatever its arguments are."""

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.processor.child.confinement import Protection
from services.processor.child.kernel import seccomp, syscalls
from services.processor.sandbox.process import Sandbox
from tests.fakes.processors import Scripted
from tests.support.every_call import NUMBERS
from tests.support.marks import long
from tests.unit.test_processor_confinement import LIMITS

_LIBC = ctypes.CDLL(None)
_IOPRIO_WHO_PROCESS = 1
_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})
_OF_STATUS = ("TracerPid", "ShdPnd", "SigPnd", "Cpus_allowed", "Mems_allowed", "Umask", "Uid", "Gid")


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    # As root's it would have capabilities, for want of which a run could do nothing to it in any case.
    with subprocess.Popen(["/bin/sleep", "3600"], preexec_fn=syscalls.give_up_privileges) as process:
        yield process
        process.kill()


def of_process(pid: int) -> dict[str, Any]:
    """What others of the same user could change of a process."""
    ioprio_get = {name: number for number, name in seccomp.known().items()}["ioprio_get"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return {
        "stopped": status["State"].startswith(("T", "t")),
        "status": {name: status.get(name) for name in _OF_STATUS},
        "limits": {limit: resource.prlimit(pid, limit) for limit in _LIMITS},
        "group": (os.getpgid(pid), os.getsid(pid)),
        "priority": (os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid), os.sched_getaffinity(pid)),
        "io priority": _LIBC.syscall(ioprio_get, _IOPRIO_WHO_PROCESS, pid),
        "to be killed": Path(f"/proc/{pid}/oom_score_adj").read_text(),
    }


def of_file(path: Path, *, times: bool = True) -> dict[str, Any]:
    """What can be changed of a file or a folder."""
    found = path.lstat()
    return {
        "content": sorted(os.listdir(path)) if path.is_dir() else path.read_bytes(),  # noqa: PTH208 - names
        "mode": found.st_mode,
        "owner": (found.st_uid, found.st_gid),
        "links": found.st_nlink,
        "times": (found.st_mtime_ns, found.st_ctime_ns) if times else None,
        "labels": {name: os.getxattr(path, name) for name in os.listxattr(path)},
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["alone", *long("programs")])
def test_a_run_changes_no_process_and_no_file_but_its_own_by_any_system_call(
    tmp_path: Path, victim: subprocess.Popen[bytes], kind: str
) -> None:
    found = Sandbox.started(LIMITS, [Scripted()]).confinement.protections
    if missing := set(Protection) - found - (set() if kind == "programs" else {Protection.NAMESPACES}):
        pytest.skip(f"the kernel has no {', '.join(missing)}")
    outside, readable = tmp_path / "outside", tmp_path / "readable"
    outside.mkdir()
    secret = outside / "secret"
    for file in (secret, readable):
        file.write_text("a key")
    (tmp_path / "runs").mkdir()

    def state() -> list[dict[str, Any]]:
        # A run with programs may set the times of a file that it may open.
        return [of_process(victim.pid), of_file(outside), of_file(secret), of_file(readable, times=kind == "alone")]

    before = state()
    command = [sys.executable, "-m", "tests.support.every_call", kind, victim.pid, outside, readable, tmp_path / "runs"]
    subprocess.run([str(part) for part in command], check=True)
    assert victim.poll() is None
    assert state() == before
    assert all((tmp_path / "runs" / str(number) / "work").is_dir() for number in NUMBERS)
