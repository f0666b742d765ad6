"""What runs in a run's own process: limits first, then the processor, then a small result file.

The parent reads the result as data, never as code: whoever takes over a decoder must gain nothing from it.
"""

import errno
import os
import resource
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from gristmill import Context, InputFile, InvalidInput, LimitExceeded, Output, Processor, Unavailable
from gristmill.faults import explain
from gristmill.wire.processors import Encoding
from services.processor.child.confinement import Confinement, Resources, confine, set_limit
from services.processor.child.decoding import decode

RESULT_FILE = "result.json"
PROGRESS_FILE = "progress"
WORK_FOLDER = "work"
INPUT_FILE = "input"
DECODED_FILE = "decoded"

Amount = TypeVar("Amount", int, float)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: bytes of address space, seconds of CPU and of the clock; bytes of one written file, and of
    all that it keeps at once; open files; and what an input that came compressed may decode to, in bytes and as a
    multiple of its size."""

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int
    work_bytes: int
    open_files: int
    max_decoded_bytes: int
    max_decoded_ratio: int

    def with_those_of(self, processor: Processor[Any]) -> "Limits":
        """Of these and the processor's own, the lesser ones."""
        theirs = processor.limits
        return replace(
            self,
            memory_bytes=_lesser(self.memory_bytes, theirs.memory_bytes),
            cpu_seconds=_lesser(self.cpu_seconds, theirs.cpu_seconds),
            wall_seconds=_lesser(self.wall_seconds, theirs.wall_seconds),
            output_bytes=_lesser(self.output_bytes, theirs.output_bytes),
            max_decoded_bytes=_lesser(self.max_decoded_bytes, theirs.max_input_bytes),
        )

    def resources(self, *, decoding: bool) -> Resources:
        """Those that the kernel keeps."""
        largest_file = max(self.output_bytes, self.max_decoded_bytes) if decoding else self.output_bytes
        return Resources(self.memory_bytes, self.cpu_seconds, largest_file, self.open_files)


class ResultOutput(BaseModel):
    """An output; `file` is its path relative to the work folder."""

    name: str
    mimetype: str
    file: str


class Result(BaseModel):
    """How the processor ended: with outputs, or with a failure's slug and a sentence for the user."""

    outputs: list[ResultOutput] = []
    failure: Literal["invalid-input", "limit", "unavailable", "resource-limit", "internal"] | None = None
    detail: str = ""
    trace: str = ""


def main(
    processor: Processor[Any],
    file: InputFile,
    encoding: Encoding | None,
    params: dict[str, Any],
    folder: Path,
    limits: Limits,
    confinement: Confinement,
    traceparent: str | None = None,
) -> None:
    """Run one processor in this process, which ends afterwards. `folder` is the run's private one; `encoding` is how
    the file came compressed, if it did. A processor finds the trace that it works for in `TRACEPARENT`."""
    work = folder / WORK_FOLDER
    written = [RESULT_FILE, PROGRESS_FILE, *([] if encoding is None else [INPUT_FILE, DECODED_FILE])]
    confine(folder, work, written, limits.resources(decoding=encoding is not None), confinement)
    if traceparent is not None:
        os.environ["TRACEPARENT"] = traceparent
    context = Context(work, folder / PROGRESS_FILE)
    result = _run(processor, file, encoding, params, context, limits)
    (folder / RESULT_FILE).write_text(result.model_dump_json())


def _run(
    processor: Processor[Any],
    file: InputFile,
    encoding: Encoding | None,
    params: dict[str, Any],
    context: Context,
    limits: Limits,
) -> Result:
    try:
        validated = processor.params_model.model_validate(params)
        if encoding is not None:
            file = _decoded(file, encoding, limits)
            set_limit(resource.RLIMIT_FSIZE, limits.output_bytes, limits.output_bytes)
        outputs = [_described(output, context.folder) for output in processor.process(file, validated, context)]
    except ValidationError as error:
        return Result(failure="invalid-input", detail=_explained(error, processor.params_model))
    except InvalidInput as error:
        return Result(failure="invalid-input", detail=str(error))
    except LimitExceeded as error:
        return Result(failure="limit", detail=str(error))
    except Unavailable as error:
        return Result(failure="unavailable", detail=str(error))
    except MemoryError:
        return Result(failure="resource-limit")
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; the log gets it, the user doesn't
        no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
        return Result(failure="resource-limit" if no_memory else "internal", trace=traceback.format_exc())
    if len({output.name for output in outputs}) < len(outputs):
        return Result(failure="internal", trace="Two outputs have the same name.")
    return Result(outputs=outputs)


def _explained(error: ValidationError, model: type[BaseModel]) -> str:
    found = [f"`{'.'.join(map(str, where))}`: {what}" if where else what for where, what in explain(error, model)]
    return " ".join(["The parameters aren't valid.", *found])


def _decoded(file: InputFile, encoding: Encoding, limits: Limits) -> InputFile:
    path = file.path.with_name(DECODED_FILE)
    size = decode(file.path, path, encoding, max_bytes=limits.max_decoded_bytes, max_ratio=limits.max_decoded_ratio)
    os.truncate(file.path, 0)  # not kept twice
    return replace(file, path=path, size=size)


def _described(output: Output, work: Path) -> ResultOutput:
    return ResultOutput(name=output.name, mimetype=output.mimetype, file=str(output.path.relative_to(work)))


def _lesser(ours: Amount, theirs: Amount | None) -> Amount:
    return ours if theirs is None else min(ours, theirs)
