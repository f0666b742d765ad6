"""Keeps processes running: starts one again when it dies, gives up when it dies too often, and leaves none behind.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches the runner alone, and so that what a
child has started goes with it. On Linux the kernel kills the children when the runner itself is killed.
"""

import asyncio
import collections
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local.logs import last_words, open_log

MAX_DEATHS = 5
DEATHS_WINDOW_SECONDS = 60
RESTART_SECONDS = 0.2
STOP_SECONDS = 9.0
NO_ROOM_BYTES = 150_000_000  # mongod makes the files of its journal ahead, of 100 MiB each
SETTINGS_FAULT = 2  # the exit code of a process whose settings are wrong: starting it again can't help
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Process:
    """What to run. The processes of one stage are stopped together, and have ended before the next stage is stopped.

    One that keeps its data in a `folder` dies when there is no room for them, and starting it again can't help then.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_stage: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    folder: Path | None = None


class SupervisionError(Exception):
    """A process can't be kept running; the message says which and why."""


class Supervisor:
    """Runs processes until the end of its `async with`. `say` gets a line for whatever a person should know."""

    def __init__(self, logs: Path, say: Callable[[str], None], stop_seconds: float = STOP_SECONDS) -> None:
        self._logs = logs
        self._say = say
        self._stop_seconds = stop_seconds
        self._stopping = False
        self._running: dict[str, tuple[Process, asyncio.subprocess.Process]] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._fault: asyncio.Future[SupervisionError] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, process: Process) -> None:
        """Start a process and keep it running. Raises `SupervisionError` when there is no such command."""
        child, said_from = await self._spawn(process)
        self._keepers.add(asyncio.create_task(self._keep(process, child, said_from)))

    async def failed(self) -> None:
        """Wait until a process can't be kept running, and raise `SupervisionError` then."""
        raise await asyncio.shield(self._fault)

    @property
    def running(self) -> dict[str, int]:
        """The processes that run now: their ids by name."""
        return {name: child.pid for name, (_, child) in self._running.items()}

    async def stop(self) -> None:
        """The signal each has for it, stage by stage; what hasn't ended after its share of the time gets SIGKILL."""
        self._stopping = True
        deadline = time.monotonic() + self._stop_seconds
        stages = sorted({process.stop_stage for process, _ in self._running.values()})
        for position, stage in enumerate(stages):
            seconds = (deadline - time.monotonic()) / (len(stages) - position)
            members = [(process, child) for process, child in self._running.values() if process.stop_stage == stage]
            await asyncio.gather(*(self._end(process, child, seconds) for process, child in members))
        await asyncio.gather(*self._keepers)

    async def _spawn(self, process: Process) -> tuple[asyncio.subprocess.Process, int]:
        """The child, and from which byte on the log is its own."""
        with open_log(self._log(process)) as log:
            said_from = log.tell()
            try:
                child = await asyncio.create_subprocess_exec(
                    *process.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=process.environment,
                    start_new_session=True,
                    preexec_fn=die_with_runner(os.getpid()),
                )
            except OSError as error:
                raise SupervisionError(f"{process.name} can't be started: {error}.") from None
        self._running[process.name] = process, child
        return child, said_from

    async def _keep(self, process: Process, child: asyncio.subprocess.Process, said_from: int) -> None:
        try:
            await self._keep_running(process, child, said_from)
        except SupervisionError as fault:
            if not self._fault.done():
                self._fault.set_result(fault)

    async def _keep_running(self, process: Process, child: asyncio.subprocess.Process, said_from: int) -> None:
        deaths: collections.deque[float] = collections.deque(maxlen=MAX_DEATHS)
        log = self._log(process)
        while True:
            code = await child.wait()
            _kill_group(child.pid)
            del self._running[process.name]
            if self._stopping:
                return
            if process.folder and (free := shutil.disk_usage(process.folder).free) < NO_ROOM_BYTES:
                raise SupervisionError(
                    f"{process.name} has no room: {free / 1e6:.0f} MB are free at {process.folder}, and "
                    f"{NO_ROOM_BYTES / 1e6:.0f} MB are needed; free some, and start again."
                )
            words = last_words(log, said_from)
            cause = _describe(code) + (f": {words}" if words else "")
            deaths.append(time.monotonic())
            if code == SETTINGS_FAULT:
                raise SupervisionError(f"{process.name} can't run: {words or f'see {log}'}")
            if len(deaths) == MAX_DEATHS and deaths[-1] - deaths[0] < DEATHS_WINDOW_SECONDS:
                raise SupervisionError(f"{process.name} died {MAX_DEATHS} times within a minute ({cause}); see {log}")
            self._say(f"{process.name} died ({cause}), and is started again")
            await asyncio.sleep(RESTART_SECONDS)
            if self._stopping:
                return
            child, said_from = await self._spawn(process)
            if self._stopping:  # the stop has not seen this one
                _kill_group(child.pid)

    async def _end(self, process: Process, child: asyncio.subprocess.Process, seconds: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(process.stop_signal)
        try:
            async with asyncio.timeout(seconds):
                await child.wait()
        except TimeoutError:
            self._say(f"{process.name} does not stop, and is killed")
            _kill_group(child.pid)
            await child.wait()

    def _log(self, process: Process) -> Path:
        return self._logs / f"{process.name}.log"


def die_with_runner(runner: int) -> Callable[[], None] | None:
    """What a child does before its own program: ask the kernel to kill it when the runner dies, however it dies."""
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != runner:  # it died before the kernel was asked
            os._exit(1)

    return prepare


def _kill_group(pid: int) -> None:
    """Kill a child and what is left of all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _describe(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
