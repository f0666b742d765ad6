"""Image-variants as the processor runs it, with the peak of its process's memory as one more output.

`python -m benchmarks.measured_images PHOTO COUNT sandbox|plain` prints one line of figures.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory import peak_mb
from gristmill import Context, InputFile, Output
from services.processor.child.main import Limits
from services.processor.processors.image_variants import ImageVariants, ImageVariantsParams
from services.processor.sandbox.folders import WorkFolder
from services.processor.sandbox.process import Sandbox
from services.processor.settings import Settings

PEAK = "peak.txt"


class MeasuredImageVariants(ImageVariants):
    """Tells how much memory its process has had at most, in MB."""

    def process(self, file: InputFile, params: ImageVariantsParams, context: Context) -> Sequence[Output]:
        outputs = super().process(file, params, context)
        path = context.new_file(PEAK)
        path.write_text(str(peak_mb()))
        return [*outputs, Output(PEAK, "text/plain", path)]


def _sandbox() -> Sandbox:
    default = {name: field.default for name, field in Settings.model_fields.items()}
    limits: dict[str, Any] = {name: default[name] for name in Limits.__dataclass_fields__}
    return Sandbox.started(Limits(**limits), [MeasuredImageVariants()])


async def in_sandbox(photo: InputFile, count: int) -> tuple[float, float]:
    """Seconds for so many pictures one after the other, and the greatest peak of their children."""
    sandbox = _sandbox()
    peaks = []
    started = 0.0
    for n in range(count + 1):  # the first one is not counted: the fork server starts
        with tempfile.TemporaryDirectory() as folder, WorkFolder(Path(folder)) as work:
            outputs = await sandbox.run(MeasuredImageVariants(), photo, {}, work)
            with outputs[-1].open() as peak:
                peaks.append(float(peak.read()))
        if n == 0:
            started = time.monotonic()
    return time.monotonic() - started, max(peaks)


def in_process(photo: InputFile, count: int) -> tuple[float, float]:
    """The same without a child."""
    started = 0.0
    for n in range(count + 1):
        with tempfile.TemporaryDirectory() as folder:
            ImageVariants().process(photo, ImageVariantsParams(), Context(Path(folder)))
        if n == 0:
            started = time.monotonic()
    return time.monotonic() - started, peak_mb()


if __name__ == "__main__":
    path, number, how = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    picture = InputFile(path, path.name, "image/jpeg", path.stat().st_size)
    taken, peak = asyncio.run(in_sandbox(picture, number)) if how == "sandbox" else in_process(picture, number)
    print(json.dumps({"seconds": taken / number, "peak": peak}))
