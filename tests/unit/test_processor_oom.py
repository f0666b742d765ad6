"""Whether the kernel has killed for want of memory: read from a cgroup's counts, and seen in a cgroup of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.processor.sandbox import oom

MEMORY_BYTES = 300 * 2**20
HOG = """
import asyncio, os, sys
from dataclasses import replace
from pathlib import Path
from gristmill import InputFile
from services.processor.sandbox.process import RunFailed, Sandbox
from tests.fakes.processors import Scripted
from tests.support.sandboxed import outputs_of
from tests.unit.test_processor_confinement import LIMITS

Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
folder = Path(sys.argv[2])
folder.joinpath("input").touch()
roomy = Sandbox.started(replace(LIMITS, memory_bytes=2**40), [Scripted()])
try:
    asyncio.run(outputs_of(roomy, Scripted(), InputFile(folder / "input", "a", "a/b", 0), {"act": sys.argv[3]}, folder))
except RunFailed as failed:
    print(failed.type)
"""


@pytest.mark.parametrize(
    ("counts", "killed"),
    [
        ("low 0\nhigh 0\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n", 1),  # memory.events
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),  # memory.oom_control
        ("nr_free_pages 1\noom_kill 0\n", 0),  # /proc/vmstat
        ("oom_kill_disable 0\nunder_oom 0\n", None),  # before Linux 4.13
        ("", None),
    ],
)
def test_kills_are_counted_where_the_kernel_counts_them(tmp_path: Path, counts: str, killed: int | None) -> None:
    (tmp_path / "counts").write_text(counts)
    assert oom.kills(tmp_path / "counts") == killed


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup with little memory. To make one, one has to be root, and the cgroup of this process has to have room."""
    group = oom.counter().parent / f"gristmill-test-{os.getpid()}"
    limit = "memory.max" if oom.counter().name == "memory.events" else "memory.limit_in_bytes"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no cgroup can be made here")
    try:
        (group / limit).write_text(str(MEMORY_BYTES))
        yield group
    except OSError:
        pytest.skip("no limit can be set here")
    finally:
        for _ in range(500):  # it is busy until the last process has gone, which nobody tells
            try:
                group.rmdir()
            except OSError:
                subprocess.run(["/bin/sleep", "0.02"], check=True)
            else:
                break


@pytest.mark.parametrize(("act", "failure"), [("hog", "resource-limit"), ("kill", "internal")])
def test_a_child_that_the_kernel_killed_for_memory_is_told_from_one_that_was_just_killed(
    cgroup: Path, tmp_path: Path, act: str, failure: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HOG, str(cgroup), str(tmp_path), act], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == failure
