"""A process for each run: forked from a server that has the processors imported already, limited, and always ended.

A fork of a warm, single-threaded server costs some milliseconds where a new interpreter costs a good part of
a second. The fork server must not be the processor itself: that one has threads, connections and keys.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common import telemetry
from common.contracts.job import MAX_OUTPUTS
from common.logging import get_logger
from gristmill import InputFile, Processor
from gristmill.texts import is_output_name
from gristmill.wire.processors import Encoding
from services.processor.child import main as child
from services.processor.child.confinement import (
    MEANING,
    PRINTED_FILE,
    REQUIRED,
    Confinement,
    Protection,
    python_paths,
    try_out,
)
from services.processor.child.kernel.namespaces import WAITING_PROCESSES
from services.processor.child.main import Limits, Result
from services.processor.sandbox import oom
from services.processor.sandbox.folders import WorkFolder, read_start
from services.processor.sandbox.usage import Allowance, excess

log = get_logger()

WATCH_SECONDS = 0.25

_MAX_RESULT_BYTES = 16 * 2**20
_MAX_PROGRESS_BYTES = 16
_MAX_PRINTED_BYTES = 4_000
_MAX_DETAIL = 500
_PRELOAD = "services.processor.child.preload"  # named, not imported: see there
_KEPT_VARIABLES = ("PATH", "LANG", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH")
# Where RLIMIT_AS leaves no room, glib and other C libraries abort instead of raising.
_SIGNALS = {
    signal.SIGXCPU: "timeout",
    signal.SIGXFSZ: "resource-limit",
    signal.SIGABRT: "resource-limit",
    signal.SIGTRAP: "resource-limit",
}
_DETAILS = {
    "timeout": "The work took longer than it may.",
    "resource-limit": "The work needed more memory or disk than it may have.",
    "internal": "The processor failed.",
}


class RunFailed(Exception):  # noqa: N818 - the run failed, the sandbox did not
    """The run ended without outputs. `type` is a slug of `common.failures`; `detail` may be shown to the user."""

    def __init__(self, failure: str, detail: str = "") -> None:
        self.type = failure
        self.detail = detail[:_MAX_DETAIL] or _DETAILS.get(failure, "The run failed.")
        super().__init__(self.detail)


class Unconfined(Exception):  # noqa: N818 - the machine lacks something, nothing went wrong
    """Runs can't be confined here as they have to be. The message has what is missing."""


@dataclass(frozen=True, slots=True)
class FoundOutput:
    """An output that a run has left in its folder. `size` is in bytes; `file` is its path within the folder."""

    name: str
    mimetype: str
    size: int
    work: WorkFolder
    file: str
    identity: tuple[int, int]
    """Device and inode."""

    def open(self) -> BufferedReader:
        """The file that was checked. Raises `RunFailed` for another one in its place."""
        source = self.work.open(self.file)
        found = os.fstat(source.fileno())
        if (found.st_dev, found.st_ino) != self.identity:
            source.close()
            raise RunFailed("internal")
        return source


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs processors in child processes. `limits` are the operator's; of these and a processor's, the lesser hold."""

    limits: Limits
    confinement: Confinement

    @classmethod
    def started(
        cls,
        limits: Limits,
        processors: Iterable[Processor[Any]],
        readable: Iterable[Path] = (),
        *,
        strict: bool = False,
    ) -> "Sandbox":
        """Starts the fork server with the processors' modules imported, best before any thread runs, and finds out how
        runs can be confined here. Raises `Unconfined` when `strict` and a protection of `REQUIRED` is missing."""
        forkserver.set_forkserver_preload(
            [_PRELOAD, child.__name__, *sorted({type(processor).__module__ for processor in processors})]
        )
        protections = _available()
        missing = [protection for protection in Protection if protection not in protections]
        lacking = [protection for protection in REQUIRED if protection in missing]
        if lacking and strict:
            meaning = "; ".join(MEANING[protection] for protection in lacking)
            raise Unconfined(f"This machine has no {' and no '.join(lacking)}: {meaning}")
        report = log.warning if lacking else log.info
        meaning = "; ".join(MEANING[protection] for protection in missing)
        report("sandbox.ready", protections=sorted(protections), missing=missing, meaning=meaning)
        return cls(limits, Confinement(protections, (*python_paths(), *map(str, readable))))

    async def run(
        self,
        processor: Processor[Any],
        file: InputFile,
        params: dict[str, Any],
        work: WorkFolder,
        encoding: Encoding | None = None,
    ) -> list[FoundOutput]:
        """The outputs, which can be opened while `work` is. With an `encoding`, the file is decoded first, by the
        child. Raises `RunFailed`; cancelled, it kills the child."""
        folder = work.run_folder
        limits = self.limits.with_those_of(processor)
        counter = oom.counter()
        killed_before = oom.kills(counter)
        confinement = self._confining(processor)
        parent = telemetry.traceparent()
        process = _process(child.main, processor, file, encoding, params, folder, limits, confinement, parent)
        try:
            async with asyncio.timeout(limits.wall_seconds):
                await _within(process, folder, limits, WAITING_PROCESSES if confinement.namespaces else 0)
        except TimeoutError:
            raise RunFailed("timeout") from None
        finally:
            exit_code = process.exitcode
            await _end(process)
        if exit_code == -signal.SIGKILL and oom.kills(counter) != killed_before:
            log.warning("child.killed_for_memory")
            raise RunFailed("resource-limit")
        return await asyncio.to_thread(lambda: _outputs(_result(exit_code, folder), work, limits))

    def _confining(self, processor: Processor[Any]) -> Confinement:
        return replace(
            self.confinement,
            network=processor.network,
            programs=processor.programs,
            readable=(*self.confinement.readable, *map(str, processor.reads)),
        )


def progress(folder: Path) -> float | None:
    """How much of the work in a run's folder is done, from 0 to 1, if its processor reports it."""
    with contextlib.suppress(OSError, ValueError):
        found = float(read_start(folder / child.PROGRESS_FILE, _MAX_PROGRESS_BYTES))
        return found if 0 <= found <= 1 else None
    return None


def _process(target: Callable[..., None], *arguments: object) -> ForkServerProcess:
    process = get_context("forkserver").Process(target=target, args=arguments, daemon=True)
    with _clean_environment():
        process.start()
    return process


def _available() -> frozenset[Protection]:
    """Which protections work on this machine, each found out by a process that takes it upon itself."""
    found = set()
    for protection in Protection if sys.platform == "linux" else ():
        process = _process(try_out, protection)
        process.join()
        if process.exitcode == 0:
            found.add(protection)
        process.close()
    return frozenset(found)


async def _within(process: ForkServerProcess, folder: Path, limits: Limits, waiting: int) -> None:
    """Returns when the process has ended. Raises `RunFailed` when it uses more than it may. `waiting`: see `excess`."""
    assert process.pid is not None  # noqa: S101 - it has been started
    allowance = Allowance(limits.work_bytes, limits.memory_bytes)
    running = True
    while running:
        try:
            async with asyncio.timeout(WATCH_SECONDS):
                await _ended(process)
            running = False
        except TimeoutError:
            pass
        if too_much := await asyncio.to_thread(excess, folder, process.pid, allowance, waiting=waiting):
            log.warning("child.excess", used=too_much)
            raise RunFailed("resource-limit")


async def _ended(process: ForkServerProcess) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)


async def _end(process: ForkServerProcess) -> None:
    """Kill what is left of the child's session, and wait for the child itself."""
    assert process.pid is not None  # noqa: S101 - it has been started
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # in case it has no session of its own yet
    await _ended(process)
    process.join()
    process.close()


def _result(exit_code: int | None, folder: Path) -> Result:
    if exit_code != 0:
        number = -(exit_code or 0)
        log.warning("child.died", signal=number or None, exit_code=exit_code, printed=_printed(folder))
        raise RunFailed(_SIGNALS.get(signal.Signals(number), "internal") if number > 0 else "internal")
    try:
        result = Result.model_validate_json(read_start(folder / child.RESULT_FILE, _MAX_RESULT_BYTES))
    except (OSError, ValidationError) as error:
        raise RunFailed("internal") from error
    if result.failure is not None:
        if result.trace:
            log.warning("processor.raised", trace=result.trace, printed=_printed(folder))
        raise RunFailed(result.failure, result.detail)
    return result


def _printed(folder: Path) -> str:
    """What the child wrote to standard output and error, of which nothing else is kept."""
    with contextlib.suppress(OSError):
        return read_start(folder / PRINTED_FILE, _MAX_PRINTED_BYTES).decode(errors="replace")
    return ""


def _outputs(result: Result, work: WorkFolder, limits: Limits) -> list[FoundOutput]:
    """What the child names, checked before any byte of it is sent: number, names, sizes, and each file only once."""
    if len(result.outputs) > MAX_OUTPUTS:
        raise RunFailed("limit", f"The work gave {len(result.outputs):,} outputs, and {MAX_OUTPUTS:,} are the most.")
    outputs = []
    for named in result.outputs:
        try:
            with work.open(named.file) as source:
                found = os.fstat(source.fileno())
        except (OSError, ValueError) as error:
            log.warning("processor.output_not_a_file", error=str(error))
            raise RunFailed("internal") from error
        identity = (found.st_dev, found.st_ino)
        outputs.append(FoundOutput(named.name, named.mimetype, found.st_size, work, named.file, identity))
    names, files = {output.name for output in outputs}, {output.identity for output in outputs}
    if min(len(names), len(files)) < len(outputs) or not all(map(is_output_name, names)):
        log.warning("processor.output_names", outputs=len(outputs), names=len(names), files=len(files))
        raise RunFailed("internal")
    if sum(output.size for output in outputs) > limits.work_bytes:
        raise RunFailed("resource-limit", f"The outputs have more than {limits.work_bytes:,} bytes together.")
    return outputs


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """The fork server inherits the environment of whoever starts it, and starts anew if it has died: it gets no
    settings of ours. One malloc arena, because each one reserves 64 MiB of the address space that is limited."""
    kept = dict(os.environ)
    clean = {name: kept[name] for name in _KEPT_VARIABLES if name in kept}
    os.environ.clear()
    os.environ.update(clean, MALLOC_ARENA_MAX="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
