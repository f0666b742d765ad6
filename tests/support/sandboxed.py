"""Runs in the sandbox, without a worker."""

from pathlib import Path
from typing import Any

from gristmill import InputFile, Output, Processor
from gristmill.wire.processors import Encoding
from services.processor.child.main import WORK_FOLDER
from services.processor.sandbox.folders import WorkFolder
from services.processor.sandbox.process import Sandbox


async def outputs_of(
    sandbox: Sandbox,
    processor: Processor[Any],
    file: InputFile,
    params: dict[str, Any],
    folder: Path,
    encoding: Encoding | None = None,
) -> list[Output]:
    """The outputs of a run in `folder`, each with the path where it lies. Raises `RunFailed`."""
    with WorkFolder(folder) as work:
        found = await sandbox.run(processor, file, params, work, encoding)
        for output in found:
            output.open().close()
        return [Output(output.name, output.mimetype, folder / WORK_FOLDER / output.file) for output in found]
