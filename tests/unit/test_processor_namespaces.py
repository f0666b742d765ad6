"""A run with programs where the kernel grants namespaces: what they keep, and that its end is told as any other's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gristmill
from gristmill import InputFile
from services.processor.child.confinement import Protection
from services.processor.child.kernel.namespaces import WAITING_PROCESSES
from services.processor.sandbox.process import RunFailed, Sandbox
from services.processor.sandbox.usage import Allowance, excess
from tests.fakes.processors import ScriptedPrograms
from tests.support.sandboxed import outputs_of
from tests.unit.test_processor_confinement import LIMITS

FORKS = """
import ctypes, os, signal, tempfile
from pathlib import Path
from services.processor.child.confinement import Confinement, Protection, Resources, confine

NOBODY, PR_SET_DUMPABLE = 65534, 4
if os.getuid() == 0:  # for whom the kernel keeps no such limit
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as of one who always was this user
with tempfile.TemporaryDirectory() as folder:
    work = Path(folder, "work")
    work.mkdir()
    if os.fork() == 0:
        confinement = Confinement(frozenset({Protection.NAMESPACES}), (), programs=True)
        confine(Path(folder), work, ["result"], Resources(2**30, 60, 2**20, 64), confinement)
        started = 0
        while started < 2000:
            try:
                if os.fork() == 0:
                    signal.pause()
            except BlockingIOError:
                break
            started += 1
        Path(folder, "result").write_text(str(started))
        os.killpg(0, signal.SIGKILL)
    os.wait()
    print(Path(folder, "result").read_text())
"""

FAMILY = """
import signal, os, subprocess
hoard = b"x" * 80 * 2**20
if os.fork() == 0:
    signal.pause()
if os.fork() == 0:
    subprocess.run(["/bin/sh", "-c", "echo; sleep 3600"])
signal.pause()
"""


@pytest.fixture
def confined() -> Sandbox:
    """Where the kernel grants namespaces."""
    sandbox = Sandbox.started(LIMITS, [ScriptedPrograms()])
    if Protection.NAMESPACES not in sandbox.confinement.protections:
        pytest.skip("the kernel grants no namespaces")
    return sandbox


@pytest.mark.usefixtures("confined")
def test_processes_without_end_have_an_end_that_the_kernel_keeps() -> None:
    ended = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert 900 < int(ended.stdout) < 1024


def test_who_only_waits_beside_a_run_counts_for_nothing(tmp_path: Path) -> None:
    allowance = Allowance(disk_bytes=2**20, memory_bytes=150 * 2**20)
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as family:
        assert family.stdout is not None
        family.stdout.readline()
        found = [excess(tmp_path, family.pid, allowance, waiting=waiting) for waiting in (0, WAITING_PROCESSES)]
        os.killpg(family.pid, signal.SIGKILL)
    assert found == ["more memory than its processes may have together", None]


@pytest.mark.parametrize(
    ("act", "failure"), [("abort", "resource-limit"), ("spin", "timeout"), ("kill", "internal"), ("raise", "internal")]
)
async def test_how_a_run_ended_is_known_though_it_was_in_namespaces(
    confined: Sandbox, tmp_path: Path, act: str, failure: str
) -> None:
    processor = ScriptedPrograms()
    processor.limits = gristmill.Limits(cpu_seconds=1)
    file = InputFile(tmp_path / "input", "a.txt", "text/plain", 5)
    file.path.write_bytes(b"hello")
    with pytest.raises(RunFailed) as failed:
        await outputs_of(confined, processor, file, {"act": act}, tmp_path)
    assert failed.value.type == failure
