"""What a processor plug-in imports: a `Processor` gets one input file and gives back output files.

A plug-in is a class, found by its entry point in the group `gristmill.processors`:

    class Shout(Processor[ShoutParams]):
        name, version, summary = "shout", "1.0.0", "Writes a text in capitals."
        media_types = ("text/plain",)
        params_model = ShoutParams

        def process(self, file: InputFile, params: ShoutParams, context: Context) -> Sequence[Output]:
            path = context.new_file("shout.txt")
            path.write_text(file.path.read_text().upper())
            return [Output("shout.txt", "text/plain", path)]
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Context", "InputFile", "InvalidInput", "LimitExceeded", "Output", "Params", "Processor"]

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


class InvalidInput(Exception):  # noqa: N818 - named for what the user is told
    """The input or the parameters can't be processed; trying again won't help. The message is shown to the user."""


class LimitExceeded(Exception):  # noqa: N818 - named for what the user is told
    """The input is larger than the processor allows. The message is shown to the user."""


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
    """A file that the processor wrote. `name` (1 to 128 characters) is unique among the outputs of one run."""

    name: str
    mimetype: str
    path: Path


class Context:
    """The private folder of one run. It is the current directory, and is removed when the run ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = 0

    def new_file(self, name: str) -> Path:
        """A path for an output called `name`: of the name it keeps only the suffix, so any name is safe."""
        self._files += 1
        suffix = Path(name).suffix
        return self.folder / f"output-{self._files}{suffix if _SUFFIX.fullmatch(suffix) else ''}"


ParamsT = TypeVar("ParamsT", bound=BaseModel)


class Processor(ABC, Generic[ParamsT]):
    """One kind of work. Each run gets a process of its own, with limits on memory, time and disk.

    `name` is lower-case words joined by hyphens, `version` is `major.minor.patch`; `media_types` are the ones it
    takes, `*/*` for all; `params_model` is `ParamsT`, and its JSON Schema is what callers are told.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    media_types: ClassVar[tuple[str, ...]]
    params_model: ClassVar[type[BaseModel]]

    @abstractmethod
    def process(self, file: InputFile, params: ParamsT, context: Context) -> Sequence[Output]:
        """Do the work and return the outputs, in the order in which callers see them; the first is the default one.

        Raises `InvalidInput` or `LimitExceeded` where the fault is the user's; anything else is tried again.
        """
