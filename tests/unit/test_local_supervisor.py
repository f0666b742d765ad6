"""The supervisor, with real child processes: small shell scripts that live, die, or refuse to stop."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import mongod
from deploy.local.supervisor import MAX_DEATHS, Process, SupervisionError, Supervisor

ENVIRONMENT = {"PATH": os.environ["PATH"]}
SLEEPER = "exec sleep 600"


class Terminal:
    """The lines that the supervisor says; a test can wait for the next one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said = asyncio.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._said.set()

    async def next_line(self) -> str:
        await self._said.wait()
        self._said.clear()
        return self.lines[-1]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
async def supervisor(tmp_path: Path, terminal: Terminal) -> AsyncIterator[Supervisor]:
    async with Supervisor(tmp_path, terminal.say, stop_seconds=2) as supervisor:
        yield supervisor


def shell(name: str, script: str, stop_stage: int = 0) -> Process:
    return Process(name, ["/bin/sh", "-c", script], ENVIRONMENT, stop_stage)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie, whose parent has not read its end yet, is dead all the same.
    status = subprocess.run(["/bin/ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return status.stdout.strip()[:1] not in ("", "Z")


async def until(condition: Callable[[], bool]) -> None:
    """Other processes can't set an event of ours, so this asks."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


async def test_a_child_that_dies_is_started_again_with_a_line_that_says_so(
    supervisor: Supervisor, terminal: Terminal
) -> None:
    await supervisor.start(shell("sleeper", SLEEPER))
    first = supervisor.running["sleeper"]
    os.kill(first, signal.SIGKILL)
    assert await terminal.next_line() == "sleeper died (SIGKILL), and is started again"
    await until(lambda: supervisor.running.get("sleeper", first) != first)
    assert alive(supervisor.running["sleeper"])


async def test_five_deaths_within_a_minute_end_it(supervisor: Supervisor, terminal: Terminal) -> None:
    await supervisor.start(shell("crasher", "echo the reason >&2; exit 3"))
    with pytest.raises(SupervisionError, match=r"crasher died 5 times within a minute \(exit code 3: the reason\)"):
        await supervisor.failed()
    assert len(terminal.lines) == MAX_DEATHS - 1


async def test_of_a_log_only_whole_lines_of_the_last_start_are_quoted(
    supervisor: Supervisor, terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "crasher.log").write_text("the reason of an older start\n")
    await supervisor.start(shell("crasher", "exit 3"))
    assert await terminal.next_line() == "crasher died (exit code 3), and is started again"
    long_line = "head -c 200000 /dev/zero | tr '\\0' . ; echo"
    await supervisor.start(shell("talker", f"{long_line}; echo the reason; printf torn; exit 3"))
    while (line := await terminal.next_line()).startswith("crasher"):
        pass
    assert line == "talker died (exit code 3: the reason), and is started again"


async def test_why_mongod_cannot_run_is_quoted(supervisor: Supervisor, terminal: Terminal, tmp_path: Path) -> None:
    def keeping_the_same(name: str) -> Process:
        return Process(name, mongod.command(mongod.find_binary(), tmp_path, mongod.free_port()), ENVIRONMENT)

    await supervisor.start(keeping_the_same("first"))
    await until(lambda: any(lock.read_text() for lock in tmp_path.glob("mongod.lock")))
    await supervisor.start(keeping_the_same("second"))
    said = await terminal.next_line()
    assert re.fullmatch(r"second died \(exit code 100: .*DBPathInUse: [^\n]*\), and is started again", said)


async def test_wrong_settings_end_it_at_once_with_the_childs_own_message(
    supervisor: Supervisor, terminal: Terminal
) -> None:
    await supervisor.start(shell("front", "echo FRONT_PORT: Input should be a valid integer. >&2; exit 2"))
    with pytest.raises(SupervisionError, match=r"front can't run: FRONT_PORT: Input should be a valid integer\."):
        await supervisor.failed()
    assert terminal.lines == []


async def test_a_command_that_is_not_there_is_one_sentence(supervisor: Supervisor) -> None:
    with pytest.raises(SupervisionError, match="nothing can't be started"):
        await supervisor.start(Process("nothing", ["/no/such/program"], ENVIRONMENT))


async def test_stop_leaves_none_and_ends_the_stages_in_order(tmp_path: Path, terminal: Terminal) -> None:
    order = tmp_path / "order"
    waits = 'trap "echo {0} >> {1}; exit 0" TERM; touch {2}; while :; do sleep 0.05; done'
    async with Supervisor(tmp_path, terminal.say) as supervisor:
        for stage, name in enumerate(("front", "blob", "mongod")):
            await supervisor.start(shell(name, waits.format(name, order, tmp_path / name), stage))
        await until(lambda: all((tmp_path / name).exists() for name in ("front", "blob", "mongod")))
        pids = list(supervisor.running.values())
    assert not any(map(alive, pids))
    assert order.read_text().split() == ["front", "blob", "mongod"]
    assert terminal.lines == []


async def test_a_child_that_does_not_stop_is_killed_and_what_it_started_too(tmp_path: Path, terminal: Terminal) -> None:
    grandchild = tmp_path / "grandchild"
    script = f"trap '' TERM; sleep 600 & echo $! > {grandchild}.part; mv {grandchild}.part {grandchild}; wait"
    async with Supervisor(tmp_path, terminal.say, stop_seconds=0.2) as supervisor:
        await supervisor.start(shell("stubborn", script))
        await until(grandchild.exists)
        pids = [supervisor.running["stubborn"], int(grandchild.read_text())]
    await until(lambda: not any(map(alive, pids)))
    assert terminal.lines == ["stubborn does not stop, and is killed"]


async def test_what_a_dead_child_had_started_goes_with_it(
    supervisor: Supervisor, terminal: Terminal, tmp_path: Path
) -> None:
    grandchild = tmp_path / "grandchild"
    await supervisor.start(
        shell("parent", f"sleep 600 & echo $! > {grandchild}.part; mv {grandchild}.part {grandchild}; wait")
    )
    await until(grandchild.exists)
    pid = int(grandchild.read_text())
    os.kill(supervisor.running["parent"], signal.SIGKILL)
    await terminal.next_line()
    await until(lambda: not alive(pid))


RUNNER = """
import asyncio, os, pathlib, sys
from deploy.local.supervisor import Process, Supervisor
async def main(folder):
    async with Supervisor(folder, print) as supervisor:
        await supervisor.start(Process("sleeper", ["/bin/sleep", "600"], {}))
        print(supervisor.running["sleeper"], flush=True)
        await asyncio.Event().wait()
asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
async def test_the_children_of_a_killed_runner_die_with_it(tmp_path: Path) -> None:
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUNNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert runner.stdout
    child = int(await runner.stdout.readline())
    assert alive(child)
    runner.kill()
    await runner.wait()
    await until(lambda: not alive(child))


async def test_what_is_stopped_by_sigkill_gets_nothing_else(tmp_path: Path, terminal: Terminal) -> None:
    said, up = tmp_path / "said", tmp_path / "up"
    script = f'trap "echo term > {said}" TERM; touch {up}; while :; do sleep 0.05; done'
    async with Supervisor(tmp_path, terminal.say) as supervisor:
        await supervisor.start(replace(shell("seaweedfs", script), stop_signal=signal.SIGKILL))
        await until(up.exists)
        pids = list(supervisor.running.values())
    assert not any(map(alive, pids))
    assert not said.exists()
    assert terminal.lines == []
