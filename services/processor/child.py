"""What runs in a run's own process: limits first, then the processor, then a small result file.

The parent reads the result as data, never as code: whoever takes over a decoder must gain nothing from it.
"""

import ctypes
import os
import resource
import signal
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from common.contracts.job import Encoding
from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output, Processor, Unavailable
from services.processor.decoding import decode

RESULT_FILE = "result.json"
WORK_FOLDER = "work"
DECODED_FILE = "decoded"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: seconds of CPU, bytes of address space and of one written file, open files; and what an
    input that came compressed may decode to, in bytes and as a multiple of its size."""

    memory_bytes: int
    cpu_seconds: int
    output_bytes: int
    open_files: int
    max_decoded_bytes: int
    max_decoded_ratio: int


class ResultOutput(BaseModel):
    """An output; `file` is its path relative to the work folder."""

    name: str
    mimetype: str
    file: str


class Result(BaseModel):
    """How the processor ended: with outputs, or with a failure's slug and what the user is told."""

    outputs: list[ResultOutput] = []
    failure: str | None = None
    detail: str = ""
    trace: str = ""


def main(
    processor: Processor[Any],
    file: InputFile,
    encoding: Encoding | None,
    params: dict[str, Any],
    folder: Path,
    limits: Limits,
) -> None:
    """Run one processor in this process, which ends afterwards. `folder` is the run's private one; `encoding` is how
    the file came compressed, if it did."""
    work = folder / WORK_FOLDER
    _confine(work, limits)
    result = _run(processor, file, encoding, params, work, limits)
    (folder / RESULT_FILE).write_text(result.model_dump_json())


def _confine(work: Path, limits: Limits) -> None:
    os.setsid()
    if sys.platform == "linux":
        # Whatever happens to the processor, its children don't outlive it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Python ignores this one; by default it ends the process, which is how the parent learns of the limit.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, TMPDIR=str(work))
    os.umask(0o077)
    os.chdir(work)
    # Past the soft limit comes SIGXCPU, which says why; a child that ignores it meets the hard one.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 5))
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, max(limits.output_bytes, limits.max_decoded_bytes)),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _run(
    processor: Processor[Any],
    file: InputFile,
    encoding: Encoding | None,
    params: dict[str, Any],
    work: Path,
    limits: Limits,
) -> Result:
    try:
        validated = processor.params_model.model_validate(params)
        if encoding is not None:
            file = _decoded(file, encoding, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.output_bytes, limits.output_bytes))
        outputs = [_described(output, work) for output in processor.process(file, validated, Context(work))]
    except ValidationError as error:
        faults = (f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
        return Result(failure="invalid-input", detail="The parameters aren't valid. " + "; ".join(faults))
    except InvalidInput as error:
        return Result(failure="invalid-input", detail=str(error))
    except LimitExceeded as error:
        return Result(failure="limit", detail=str(error))
    except Unavailable as error:
        return Result(failure="unavailable", detail=str(error))
    except MemoryError:
        return Result(failure="resource-limit")
    except Exception:  # noqa: BLE001 - a plug-in may raise anything; the log gets it, the user doesn't
        return Result(failure="internal", trace=traceback.format_exc())
    if len({output.name for output in outputs}) < len(outputs):
        return Result(failure="internal", trace="Two outputs have the same name.")
    return Result(outputs=outputs)


def _decoded(file: InputFile, encoding: Encoding, limits: Limits) -> InputFile:
    path = file.path.with_name(DECODED_FILE)
    size = decode(file.path, path, encoding, max_bytes=limits.max_decoded_bytes, max_ratio=limits.max_decoded_ratio)
    file.path.unlink()
    return replace(file, path=path, size=size)


def _described(output: Output, work: Path) -> ResultOutput:
    return ResultOutput(name=output.name, mimetype=output.mimetype, file=str(output.path.relative_to(work)))
