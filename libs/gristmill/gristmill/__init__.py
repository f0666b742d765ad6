"""What a processor plug-in imports: a `Processor` gets one input file and gives back output files.

A plug-in is a class, found by its entry point in the group `gristmill.processors`:

    class Shout(Processor[ShoutParams]):
        name, version, summary = "shout", "1.0.0", "Writes a text in capitals."
        media_types = ("text/plain",)
        params_model = ShoutParams
        limits = Limits(max_input_bytes=10_000_000, wall_seconds=60)

        def process(self, file: InputFile, params: ShoutParams, context: Context) -> Sequence[Output]:
            path = context.new_file("shout.txt")
            path.write_text(file.path.read_text().upper())
            return [Output("shout.txt", "text/plain", path)]

docs/processors.md has the whole contract, and examples/plugin-wordcount is a package of this kind.
"""

import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from gristmill.texts import is_output_name

__all__ = [
    "Context",
    "InputFile",
    "InvalidInput",
    "LimitExceeded",
    "Limits",
    "Output",
    "Params",
    "Processor",
    "Unavailable",
]

_PROGRESS_SECONDS = 0.1
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


class InvalidInput(Exception):  # noqa: N818 - named for what the user learns
    """The input or the parameters can't be processed; trying again won't help. The message is shown to the user."""


class LimitExceeded(Exception):  # noqa: N818 - named for what the user learns
    """The input is larger than the processor allows. The message is shown to the user."""


class Unavailable(Exception):  # noqa: N818 - named for what the user learns
    """What the work depends on can't be reached now; the run is tried again. The message is shown to the user."""


class Params(BaseModel):
    """A processor's parameters. Keep them flat: numbers, strings, enums and lists of these fit into a query string."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class InputFile:
    """The input, whole and digest-checked. `name` is the user's label and never part of `path`; `size` is in bytes."""

    path: Path
    name: str
    mimetype: str
    size: int


@dataclass(frozen=True, slots=True)
class Output:
    """A file that the processor wrote in its folder. `name` is unique among the outputs of one run, and one part of a
    path: `gristmill.texts.is_output_name`. Raises `ValueError` for any other name.
    """

    name: str
    mimetype: str
    path: Path

    def __post_init__(self) -> None:
        if not is_output_name(self.name):
            raise ValueError(f"{self.name!r} can't be the name of an output.")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run may use. None leaves it to the operator, of whose limits and these the lesser holds.

    Seconds of CPU and of the clock; bytes of address space, of the largest file written, and of an input, which is
    refused before it is sent.
    """

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    wall_seconds: float | None = None
    output_bytes: int | None = None
    max_input_bytes: int | None = None


class Context:
    """The private folder of one run. It is the current directory, and is removed when the run ends."""

    def __init__(self, folder: Path, progress_file: Path | None = None) -> None:
        self.folder = folder
        self._progress_file = progress_file
        self._progress_descriptor: int | None = None
        self._reported_at = -math.inf
        self._files = 0

    def progress(self, done: float) -> None:
        """Report how much of the work is done, from 0 to 1. Cheap, so call it often; users see it now and then."""
        now = time.monotonic()
        if self._progress_file is None or (done < 1 and now < self._reported_at + _PROGRESS_SECONDS):
            return
        self._reported_at = now
        if self._progress_descriptor is None:
            self._progress_descriptor = os.open(self._progress_file, os.O_WRONLY | os.O_CREAT, 0o600)
        # Always as long, and in one write: whoever reads it meanwhile sees the old or the new one.
        os.pwrite(self._progress_descriptor, f"{min(max(done, 0.0), 1.0):.4f}".encode(), 0)

    def new_file(self, name: str) -> Path:
        """A path for an output called `name`: of the name it keeps only the suffix, so any name is safe."""
        self._files += 1
        suffix = Path(name).suffix
        return self.folder / f"output-{self._files}{suffix if _SUFFIX.fullmatch(suffix) else ''}"


ParamsT = TypeVar("ParamsT", bound=BaseModel)


class Processor(ABC, Generic[ParamsT]):
    """One kind of work. Each run gets a process of its own, with limits on memory, time and disk, and no network.

    `name` is lower-case words joined by hyphens, `version` is `major.minor.patch`; `media_types` are the ones it
    takes, `*/*` for all; `params_model` is `ParamsT`, and its JSON Schema is published to callers. An instance is made
    once, without arguments, and pickled into each run's process.

    Only with `network` may a run open connections, and only with `programs` start programs (or processes: threads it
    always may). It can read the system's libraries, installed packages, its own package and the paths in `reads`, and
    can start programs from there; it can write in its folder alone. Files that are opened at import are closed again
    in a run.
    """

    name: str
    version: str
    summary: str
    media_types: tuple[str, ...]
    params_model: type[BaseModel]
    limits: Limits = Limits()
    network: bool = False
    programs: bool = False
    reads: Sequence[Path] = ()

    def params_schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the parameters, which front checks them against."""
        return self.params_model.model_json_schema()

    @abstractmethod
    def process(self, file: InputFile, params: ParamsT, context: Context) -> Sequence[Output]:
        """Do the work and return the outputs, in the order in which callers see them; the first is the default one.

        Raises `InvalidInput` or `LimitExceeded` where the fault is the user's; anything else is tried again.
        """
