"""`command`: runs a program of the operator's own on the input, and takes the files that it writes as outputs.

The command line is configured; nothing of a job becomes a part of it, and no shell reads it. Exit codes are those of
sysexits.h: 0, then there are outputs; 65 (EX_DATAERR), the input is at fault, and the first line of standard error
says why; 75 (EX_TEMPFAIL), try again later. Any other is the program's own failure.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from common.contracts.job import Name
from gristmill import Context, InputFile, InvalidInput, Output, Unavailable
from gristmill.wire.processors import ProcessorName, Summary
from services.processor.processors.configured import AnyParams, Configuration, Configured, media_type_of, sentence

MAX_OUTPUTS = 1000
MAX_NAME = 128
_LOGGED_BYTES = 1024
_PLACE = re.compile(r"\{(input|output|params)\}")
_LIBC = ctypes.CDLL(None)  # before a run's file system is closed
_PR_SET_PDEATHSIG = 1
# How the kernel, or a library that got no memory, ends a program at a limit.
_LIMITS_MET = {signal.SIGXCPU, signal.SIGXFSZ, signal.SIGABRT, signal.SIGTRAP}


class CommandConfiguration(Configuration):
    """An entry of `PROCESSOR_COMMANDS`.

    In `argv`, `{input}` is the path of the input, `{params}` that of a JSON file with the parameters, and `{output}`
    that of what the program is to make: a file, or a folder with one file for each output. Without `{output}`, what it
    prints is the output. Paths have no blanks or other characters that need care.
    """

    name: ProcessorName = "command"
    summary: Summary = "A file as a program transforms it."
    argv: list[Annotated[str, Field(max_length=4096)]] = Field(
        min_length=1, max_length=100, description="The program and its arguments; the program is found on the PATH."
    )
    output_name: Name = Field("result.txt", description="What the output is called, if it is one file.")
    output_media_type: str | None = Field(
        None,
        pattern=r"^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+$",
        description="A media type such as `image/png`: that of the output; by default it follows from its name.",
    )
    input_error_codes: list[Annotated[int, Field(ge=1, le=255)]] = Field(
        default_factory=lambda: [os.EX_DATAERR], max_length=255, description="Exit codes for faults of the input."
    )

    reads: list[Path] = Field(
        default_factory=list,
        max_length=100,
        description="What the program reads beside the system's files, its own one and the run's folder.",
    )

    @field_validator("argv")
    @classmethod
    def _is_a_program(cls, argv: list[str]) -> list[str]:
        program = shutil.which(argv[0])
        if program is None:
            raise ValueError(f"there is no program {argv[0]!r}, or it may not be run")
        if any("\x00" in argument for argument in argv):
            raise ValueError("an argument has no null characters")
        return [str(Path(program).absolute()), *argv[1:]]


class Command(Configured):
    """The program has the limits, the network (none) and the private folder of the run, and ends with it."""

    programs = True

    def __init__(self, configuration: CommandConfiguration) -> None:
        super().__init__(configuration)
        self.reads = (Path(configuration.argv[0]), *configuration.reads)
        self._argv = configuration.argv
        self._prints = not any("{output}" in argument for argument in configuration.argv)
        self._output_name = configuration.output_name
        self._output_media_type = configuration.output_media_type or media_type_of(configuration.output_name)
        self._input_error_codes = configuration.input_error_codes

    def process(self, file: InputFile, params: AnyParams, context: Context) -> Sequence[Output]:
        output, errors = context.new_file(self._output_name), context.new_file("stderr")
        printed = output if self._prints else context.new_file("stdout")
        described = context.new_file("params.json")
        described.write_text(json.dumps(params.root))
        paths = {"input": str(file.path), "output": str(output), "params": str(described)}
        # From configuration alone: a job decides what the files hold, and nothing else.
        argv = [_PLACE.sub(lambda place: paths[place[1]], argument) for argument in self._argv]
        with printed.open("wb") as stdout, errors.open("wb") as stderr:
            ended = subprocess.run(  # noqa: S603 - see above
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=context.folder,
                env=_environment(context.folder),
                preexec_fn=_end_with_parent,
                check=False,
            )
        self._judge(ended.returncode, errors, file)
        return self._outputs(output)

    def _judge(self, code: int, errors: Path, file: InputFile) -> None:
        """Raises what an exit code means; a negative one is the signal that ended the program."""
        if code == 0:
            return
        if code in self._input_error_codes:
            with errors.open(errors="replace") as lines:
                reason = lines.read(64 * 1024).replace(str(file.path), file.name)
            raise InvalidInput(sentence(reason, "The program can't work on this file."))
        last_words = _last_bytes(errors).decode(errors="replace")
        if -code in _LIMITS_MET:
            print(last_words, file=sys.stderr, flush=True)  # noqa: T201 - for the log
            # As if the limit had met this process, so that it is told as any other processor's is.
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        if code == os.EX_TEMPFAIL:
            print(last_words, file=sys.stderr)  # noqa: T201 - likewise
            raise Unavailable("The program can't work now.")
        raise RuntimeError(f"{self._argv[0]} ended with {code}: {last_words}")

    def _outputs(self, output: Path) -> Sequence[Output]:
        try:
            mode = output.lstat().st_mode
        except FileNotFoundError:
            raise RuntimeError(f"{self._argv[0]} wrote no output.") from None
        if stat.S_ISREG(mode):
            return [Output(self._output_name, self._output_media_type, output)]
        if not stat.S_ISDIR(mode):
            raise RuntimeError(f"{self._argv[0]} made something that is neither a file nor a folder.")
        outputs: list[Output] = []
        with os.scandir(output) as entries:
            for entry in entries:
                if not (entry.is_file(follow_symlinks=False) and _is_a_name(entry.name)):
                    raise RuntimeError(f"{self._argv[0]} made {entry.name!r}, which can't be an output.")
                outputs.append(Output(entry.name, media_type_of(entry.name), output / entry.name))
                if len(outputs) > MAX_OUTPUTS:
                    raise RuntimeError(f"{self._argv[0]} made more than {MAX_OUTPUTS} files.")
        return sorted(outputs, key=lambda made: made.name)


def _is_a_name(name: str) -> bool:
    return name.isprintable() and len(name) <= MAX_NAME


def _environment(folder: Path) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    environment = {"PATH": path, "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}
    if trace := os.environ.get("TRACEPARENT"):
        environment["TRACEPARENT"] = trace
    return environment


def _end_with_parent() -> None:
    """Between fork and exec: the kernel ends the program when its run's process is killed alone."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as source:
        source.seek(max(0, path.stat().st_size - _LOGGED_BYTES))
        return source.read()
