"""What a hostile processor tries in the sandbox, and what comes of it. Linux, with Landlock and libseccomp."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

import gristmill
from gristmill import InputFile, Output
from gristmill.wire.processors import Encoding
from services.processor.child.confinement import REQUIRED, Confinement, Protection, python_paths
from services.processor.child.main import Limits
from services.processor.sandbox import process as sandbox_module
from services.processor.sandbox.folders import WorkFolder, remove
from services.processor.sandbox.process import RunFailed, Sandbox
from tests.fakes.encodings import ENCODE
from tests.fakes.processors import Scripted, ScriptedNetwork, ScriptedPrograms
from tests.support.sandboxed import outputs_of

MIB = 2**20
LIMITS = Limits(
    memory_bytes=512 * MIB,
    cpu_seconds=60,
    wall_seconds=60,
    output_bytes=32 * MIB,
    work_bytes=64 * MIB,
    open_files=256,
    max_decoded_bytes=32 * MIB,
    max_decoded_ratio=1000,
)
PRIVATE = (
    "read a secret",
    "list a folder",
    "overwrite a file",
    "make a file",
    "remove a file",
    "make a file beside its folder",
    "rename its folder",
    "replace the result",
    "change the mode of a secret",
    "change the owner of a secret",
    "label a secret",
    "change the times of a secret",
    "watch a folder",
    "limit the processor",
    "slow the processor down",
    "bind the processor to a core",
    "link a secret",
    "read the processor's environment",
    "read the processor's memory",
    "see the processor's files",
    "stop the processor",
    "have the processor signalled",
    "start a process beside itself",
    "make sockets that reach others",
    "signal everybody",
    "leave its session",
    "open a Unix socket",
    "keep memory beyond its end",
    "keep memory out of sight",
    "become somebody else",
)
HARMLESS = {
    "make a pair of sockets": "done: 2",
    "start a thread": "done: [1]",
    "write a temporary file": "done: True",
    "read a library": "done: True",
    "list what is open": "done: ['0 null', '1 printed', '2 printed']",
}
REFUSED = ("EACCES", "EPERM", "EXDEV")
NO_LABELS = errno.errorcode[errno.ENOTSUP]
OUT_OF_SIGHT = ("ENOENT", "ESRCH")
"""What a process in a pid namespace of its own is told of others."""


@pytest.fixture
def ready() -> Sandbox:
    return Sandbox.started(LIMITS, [Scripted()])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Runs a script in a folder of its own; gives its outputs."""

    async def ran(sandbox: Sandbox, processor: Scripted, act: str, where: str = "") -> Any:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "input").write_bytes(b"hello")
        file = InputFile(folder / "input", "a.txt", "text/plain", 5)
        return await outputs_of(sandbox, processor, file, {"act": act, "where": where}, folder)

    return ran


@pytest.fixture
async def attempts(ready: Sandbox, run: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """What came of each attempt. The processor of the attempts is this process."""

    async def made(processor: Scripted, sandbox: Sandbox = ready) -> dict[str, str]:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "secret").write_text("a key")
        (output,) = await run(sandbox, processor, "report", f"{elsewhere}:{os.getpid()}")
        assert (elsewhere / "secret").read_text() == "a key"
        found: dict[str, str] = json.loads(output.path.read_text())
        return found

    return made


def refused(made: dict[str, str], *names: str) -> list[str]:
    return [name for name in names if made[name] in REFUSED]


async def test_a_processor_gets_at_nothing_but_its_folder(attempts: Callable[..., Any]) -> None:
    made = await attempts(Scripted())
    denied = (*PRIVATE, "fork", "start a program", "open a connection")
    assert refused(made, *denied) == list(denied), made
    assert {name: made[name] for name in HARMLESS} == HARMLESS
    assert made["read a label of a secret"] == NO_LABELS
    assert "not allowed to raise" in made["raise a limit"]
    assert "PROCESSOR" not in made["read its environment"]


@pytest.mark.parametrize("namespaces", [True, False], ids=["in its namespaces", "without namespaces"])
async def test_a_processor_that_starts_programs_gets_no_further(
    ready: Sandbox, attempts: Callable[..., Any], namespaces: bool
) -> None:
    protections = ready.confinement.protections - (set() if namespaces else {Protection.NAMESPACES})
    confined = replace(ready, confinement=replace(ready.confinement, protections=protections))
    made = await attempts(ScriptedPrograms(), confined)
    # To everybody is to nobody: the kernel leaves out those it may not reach, and doesn't say so.
    denied = [name for name in (*PRIVATE, "open a connection") if name != "signal everybody"]
    kept_out = (*REFUSED, *OUT_OF_SIGHT) if namespaces else REFUSED
    assert [name for name in denied if made[name] in kept_out] == denied, made
    assert {name: made[name] for name in HARMLESS} == HARMLESS
    assert made["read a label of a secret"] == NO_LABELS
    assert made["start a program"] == "done: 0"
    assert made["fork"].startswith("done: ")
    assert (made["see that the processor is there"] in OUT_OF_SIGHT) == namespaces


async def test_a_processor_with_network_has_no_more_than_that(attempts: Callable[..., Any]) -> None:
    made = await attempts(ScriptedNetwork())
    denied = (*PRIVATE, "fork", "start a program")
    assert refused(made, *denied) == list(denied), made
    assert made["open a connection"] == "done: None"
    assert made["look up a name"] == "done: True"


async def test_what_a_processor_says_that_it_reads_it_reads(run: Callable[..., Any], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("a model")
    processor = Scripted()
    processor.reads = (elsewhere,)
    (output,) = await run(Sandbox.started(LIMITS, [processor]), processor, "report", f"{elsewhere}:{os.getpid()}")
    made = json.loads(output.path.read_text())
    assert made["read a secret"] == "done: a model"
    assert made["overwrite a file"] in REFUSED


SMALL = replace(LIMITS, work_bytes=2 * MIB)


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_an_input_and_what_it_decodes_to_count_with_what_a_run_keeps(
    tmp_path: Path, encoding: Encoding | None
) -> None:
    content = bytes(3 * MIB)
    path = tmp_path / "input"
    path.write_bytes(content if encoding is None else ENCODE[encoding](content))
    file = InputFile(path, "a.bin", "application/octet-stream", path.stat().st_size)
    with pytest.raises(RunFailed) as failed:
        await outputs_of(Sandbox.started(SMALL, [Scripted()]), Scripted(), file, {"act": "look"}, tmp_path, encoding)
    assert failed.value.type == "resource-limit"


@pytest.mark.parametrize("act", ["scatter", "hide", "bury", "hog", "fill"])
async def test_what_is_taken_without_end_has_an_end(ready: Sandbox, run: Callable[..., Any], act: str) -> None:
    with pytest.raises(RunFailed) as failed:
        await run(ready, Scripted(), act)
    assert failed.value.type == "resource-limit"


async def test_programs_without_end_have_an_end(ready: Sandbox, run: Callable[..., Any]) -> None:
    with pytest.raises(RunFailed) as failed:
        await run(ready, ScriptedPrograms(), "swell")
    assert failed.value.type == "resource-limit"


async def test_a_folder_goes_whatever_was_done_to_it(ready: Sandbox, run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RunFailed):  # what is deeper than a path can say can't be added up
        await run(ready, Scripted(), "nest")
    remove(tmp_path / "run")
    assert next(tmp_path.iterdir(), None) is None  # noqa: ASYNC240 - nothing else runs


@pytest.mark.parametrize("trap", ["pipe", "link"])
async def test_a_trap_for_the_processor_catches_nothing(
    unconfined: Sandbox, run: Callable[..., Any], tmp_path: Path, trap: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.json").write_text('{"outputs": []}')
    (elsewhere / "progress").write_text("0.5")
    with pytest.raises(RunFailed) as failed:
        await run(unconfined, Scripted(), "trap", "" if trap == "pipe" else str(elsewhere))
    assert failed.value.type == "internal"
    assert sandbox_module.progress(tmp_path / "run") is None


@pytest.mark.parametrize("written", ["", "0.", "nan", "-0.1", "1.1", "yes", "9" * 10**6, "0.5000\x00"])
def test_progress_is_a_number_or_nothing(tmp_path: Path, written: str) -> None:
    (tmp_path / "progress").write_text(written)
    assert sandbox_module.progress(tmp_path) in (None, 0)
    (tmp_path / "progress").write_text("0.5000")
    assert sandbox_module.progress(tmp_path) == 0.5


@pytest.mark.parametrize(
    ("act", "limits", "failure"),
    [
        ("hang", gristmill.Limits(wall_seconds=0.3), "timeout"),
        ("spin", gristmill.Limits(cpu_seconds=1), "timeout"),
        ("fill", gristmill.Limits(output_bytes=MIB), "resource-limit"),
        ("hog", gristmill.Limits(memory_bytes=400 * MIB), "resource-limit"),
    ],
)
async def test_of_a_processors_limits_and_the_operators_the_lesser_hold(
    run: Callable[..., Any], tmp_path: Path, act: str, limits: gristmill.Limits, failure: str
) -> None:
    roomy = replace(LIMITS, work_bytes=2**40, output_bytes=2**40, memory_bytes=2**40)
    processor = Scripted()
    processor.limits = limits
    with pytest.raises(RunFailed) as failed:
        await run(Sandbox.started(roomy, [processor]), processor, act)
    assert failed.value.type == failure
    assert sum(path.stat().st_size for path in (tmp_path / "run" / "work").iterdir()) <= MIB


class Watched(WorkFolder):
    """Remembers which threads have looked into it."""

    def __init__(self, run_folder: Path) -> None:
        super().__init__(run_folder)
        self.threads: list[threading.Thread] = []

    def open(self, name: str) -> BufferedReader:
        self.threads.append(threading.current_thread())
        return super().open(name)


async def test_outputs_are_looked_at_while_the_processor_goes_on(ready: Sandbox, tmp_path: Path) -> None:
    file = InputFile(tmp_path / "input", "a.txt", "text/plain", 5)
    file.path.write_bytes(b"hello")
    with (work := Watched(tmp_path)):
        outputs = await ready.run(Scripted(), file, {}, work)
    assert len(work.threads) == len(outputs) == 2
    assert threading.current_thread() not in work.threads


LESSER_MACHINE = """
import asyncio, errno, sys
from pathlib import Path
from gristmill import InputFile, Output
from services.processor.child.kernel import seccomp, syscalls
from services.processor.child.kernel.seccomp import Allowed, Check
from services.processor.sandbox.process import Sandbox, Unconfined
from tests.fakes.processors import Scripted
from tests.support.sandboxed import outputs_of
from tests.unit.test_processor_confinement import LIMITS

syscalls.give_up_privileges()
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
missing = sys.argv[1]
calls = {"landlock": {"landlock_create_ruleset"}, "seccomp": {"seccomp", "prctl"}, "namespaces": {"unshare"}}[missing]
left = [Allowed(name) for name in set(seccomp.known().values()) - calls]
if missing == "seccomp":
    options = (PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS)
    left += [Allowed("prctl", (Check(0, option),)) for option in options]
seccomp.load(seccomp.program(left, {"landlock_create_ruleset": errno.ENOSYS} if missing == "landlock" else {}))
folder = Path(sys.argv[2])
file = InputFile(folder / "input", "a.txt", "text/plain", 5)
file.path.write_text("hello")
print(asyncio.run(outputs_of(Sandbox.started(LIMITS, [Scripted()]), Scripted(), file, {}, folder)))
try:
    Sandbox.started(LIMITS, [Scripted()], strict=True)
except Unconfined as error:
    print("strict:", error)
"""


@pytest.mark.parametrize("protection", list(Protection))
def test_a_kernel_that_lacks_something_is_told_of_once_and_refused_if_asked(
    tmp_path: Path, protection: Protection
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LESSER_MACHINE, protection, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "0.txt" in ended.stdout
    refused = f"strict: This machine has no {protection}: runs can " in ended.stdout
    assert refused == (protection in REQUIRED)
    told = [line for line in ended.stdout.splitlines() if "sandbox.ready" in line]
    assert len(told) == (1 if refused else 2)
    assert all(f"missing=[<Protection.{protection.name}" in line for line in told)


@pytest.fixture
def unconfined() -> Sandbox:
    """As on a kernel without Landlock and seccomp: what the parent does has to be enough."""
    return Sandbox(LIMITS, Confinement(frozenset(), python_paths()))


@pytest.mark.parametrize("confined", [True, False], ids=["confined", "unconfined"])
async def test_nothing_behind_a_link_in_the_place_of_its_folder_is_an_output(
    ready: Sandbox, unconfined: Sandbox, run: Callable[..., Any], tmp_path: Path, confined: bool
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "secret").write_text("a key")
    with pytest.raises(RunFailed) as failed:
        await run(ready if confined else unconfined, Scripted(), "swap", str(keys))
    assert failed.value.type == "internal"


async def test_a_file_is_an_output_once(ready: Sandbox, run: Callable[..., Any]) -> None:
    with pytest.raises(RunFailed) as failed:
        await run(ready, Scripted(), "borrow")
    assert failed.value.type == "internal"


async def test_an_output_is_the_file_that_was_checked(ready: Sandbox, tmp_path: Path) -> None:
    file = InputFile(tmp_path / "input", "a.txt", "text/plain", 5)
    file.path.write_bytes(b"hello")
    with WorkFolder(tmp_path) as work:
        output, other = await ready.run(Scripted(), file, {}, work)
        (work.path / other.file).rename(work.path / output.file)
        with pytest.raises(RunFailed):
            output.open()


async def test_outputs_have_a_limit_together_though_they_take_no_room(ready: Sandbox, run: Callable[..., Any]) -> None:
    with pytest.raises(RunFailed, match="more than 67,108,864 bytes together") as failed:
        await run(ready, Scripted(), "sparse")
    assert failed.value.type == "resource-limit"


async def test_too_many_outputs_are_a_failure_of_the_run(ready: Sandbox, run: Callable[..., Any]) -> None:
    with pytest.raises(RunFailed, match="12,000 outputs, and 5,000 are the most") as failed:
        await run(ready, Scripted(), "many")
    assert failed.value.type == "limit"


@pytest.mark.parametrize("name", ["a/b", "../x", ".", "..", "", "a\\b", "a\nb", "\u202eb", "x" * 129, " a"])
async def test_an_output_has_a_name_that_is_one_part_of_a_path(
    ready: Sandbox, run: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="can't be the name of an output"):
        Output(name, "text/plain", tmp_path)
    with pytest.raises(RunFailed) as failed:
        await run(ready, Scripted(), "badly named", name)
    assert failed.value.type == "internal"
