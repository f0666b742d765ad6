"""Pillow, where sharp can't be had: `python -m benchmarks.rivals.pillow PHOTO COUNT` prints one line of figures."""

import json
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.memory import peak_mb


def variants(photo: Path, folder: Path) -> None:
    with Image.open(photo) as opened:
        upright = ImageOps.exif_transpose(opened)
        for width in (320, 800, 1600):
            box = (width, round(upright.height * width / upright.width))
            upright.resize(box, Image.Resampling.LANCZOS, reducing_gap=2.0).save(
                folder / f"{width}.webp", quality=80, method=2
            )
        upright.save(folder / "original.webp", quality=80, method=2)


if __name__ == "__main__":
    source, count = Path(sys.argv[1]), int(sys.argv[2])
    started = time.monotonic()
    for _ in range(count):
        with tempfile.TemporaryDirectory() as target:
            variants(source, Path(target))
    print(json.dumps({"seconds": (time.monotonic() - started) / count, "peak": peak_mb()}))
