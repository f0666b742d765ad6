"""A process for each run: forked from a server that has the processors imported already, limited, and always ended.

A fork of a warm, single-threaded server costs some milliseconds where a new interpreter costs a good part of
a second. The fork server must not be the processor itself: that one has threads, connections and keys.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.contracts.job import Encoding
from common.logging import get_logger
from gristmill import InputFile, Output, Processor
from services.processor import child
from services.processor.child import Limits, Result

log = get_logger()

_MAX_RESULT_BYTES = 16 * 2**20
_MAX_DETAIL = 500
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


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs processors in child processes; `wall_seconds` is how long one run may take."""

    limits: Limits
    wall_seconds: float

    def start(self, processors: Iterable[Processor[Any]]) -> None:
        """Start the fork server with the processors' modules imported, best before any thread runs."""
        forkserver.set_forkserver_preload(
            [child.__name__, *sorted({type(processor).__module__ for processor in processors})]
        )
        with _clean_environment():
            forkserver.ensure_running()

    async def run(
        self,
        processor: Processor[Any],
        file: InputFile,
        params: dict[str, Any],
        folder: Path,
        encoding: Encoding | None = None,
    ) -> list[Output]:
        """The outputs, all of them regular files under `folder`. With an `encoding`, the file is decoded first, by the
        child. Raises `RunFailed`; cancelled, it kills the child."""
        work = folder / child.WORK_FOLDER
        work.mkdir(mode=0o700)
        process = get_context("forkserver").Process(
            target=child.main, args=(processor, file, encoding, params, folder, self.limits), daemon=True
        )
        with _clean_environment():
            process.start()
        try:
            async with asyncio.timeout(self.wall_seconds):
                await _ended(process)
        except TimeoutError:
            raise RunFailed("timeout") from None
        finally:
            exit_code = process.exitcode
            await _end(process)
        return _outputs(_result(exit_code, folder), work)


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
        log.warning("child.died", signal=number if number > 0 else None, exit_code=exit_code)
        raise RunFailed(_SIGNALS.get(signal.Signals(number), "internal") if number > 0 else "internal")
    try:
        with (folder / child.RESULT_FILE).open("rb") as source:
            result = Result.model_validate_json(source.read(_MAX_RESULT_BYTES))
    except (OSError, ValidationError) as error:
        raise RunFailed("internal") from error
    if result.failure is not None:
        if result.trace:
            log.warning("processor.raised", trace=result.trace)
        raise RunFailed(result.failure, result.detail)
    return result


def _outputs(result: Result, work: Path) -> list[Output]:
    root = work.resolve()
    outputs = [Output(output.name, output.mimetype, (work / output.file).resolve()) for output in result.outputs]
    if not all(output.path.is_relative_to(root) and output.path.is_file() for output in outputs):
        log.warning("processor.output_outside_folder")
        raise RunFailed("internal")
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
