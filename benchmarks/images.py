"""A 24-megapixel JPEG to three WebPs and one in its own size: image-variants and sharp."""

import asyncio
import shutil
import sys
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Effort, Goal, Measure, Sample, Section, alternate, measured_by, say
from deploy.local.sample import draw

WIDTH, HEIGHT = 6000, 4000
PICTURES = 5
MOST_MB = 160
SANDBOX, PLAIN, SHARP, PILLOW = "image-variants, as it runs", "image-variants without a child", "sharp", "Pillow"
BOTH = ", two processes"


async def run(effort: Effort, folder: Path) -> Section:
    count = effort.of(PICTURES)
    photo = folder / "photo.jpg"
    say("  Drawing a picture ...")
    await asyncio.to_thread(lambda: photo.write_bytes(draw(WIDTH, HEIGHT)))
    section = Section(
        "images",
        "A 24-megapixel JPEG to three WebPs and one in its own size",
        f"A drawn picture of {WIDTH} x {HEIGHT} pixels with noise and gradients; widths 320, 800, 1600, and the "
        f"original; quality 80, effort 2, metadata stripped. {count} pictures a round, one after the other, in a "
        "process pinned to one core; two processes have a core each. sharp: concurrency(1), no cache, its process "
        "stays; ours: a child for each picture, as the processor has it. Memory: the peak of the process that works.",
        {"rate": "pictures/s", "seconds": "s for one", "peak": "peak of a process, MB"},
    )
    ours = [sys.executable, "-m", "benchmarks.measured_images", str(photo), str(count)]
    commands = {SANDBOX: [*ours, "sandbox"], PLAIN: [*ours, "plain"]}
    try:
        modules = await asyncio.to_thread(peers.node)
        peer = SHARP
        commands[SHARP] = ["node", str(peers.RIVALS / "resize.mjs"), str(photo), str(count), str(modules)]
        section.versions = await asyncio.to_thread(peers.node_versions, "sharp")
    except peers.MissingPeerError as missing:
        section.notes.append(f"Pillow instead of sharp: {missing}")
        peer = PILLOW
        commands[PILLOW] = [sys.executable, "-m", "benchmarks.rivals.pillow", str(photo), str(count)]
    sides: dict[str, Measure] = {name: partial(_measure, command, 1) for name, command in commands.items()}
    sides |= {name + BOTH: partial(_measure, commands[name], 2) for name in (SANDBOX, peer)}
    section.results = await alternate(sides, effort)
    rate = {side: result.median("rate") for side, result in section.results.items()}
    peak = max(section.results[side].median("peak") for side in (SANDBOX, SANDBOX + BOTH))
    section.goals = [
        Goal(f"pictures/s on one core, against {peer}", rate[SANDBOX] / rate[peer], 0.9),
        Goal(f"pictures/s of two processes, against one of {peer}", rate[SANDBOX + BOTH] / rate[peer], 1.9),
        Goal("peak memory of a process, MB", peak, MOST_MB, at_most=True),
    ]
    section.notes.append(f"Two processes against our own one: {rate[SANDBOX + BOTH] / rate[SANDBOX]:.2f}.")
    section.notes.append(f"The child costs {_milliseconds(section):.0f} ms a picture.")
    return section


def _milliseconds(section: Section) -> float:
    return (section.results[SANDBOX].median("seconds") - section.results[PLAIN].median("seconds")) * 1e3


async def _measure(command: list[str], processes: int) -> Sample:
    found = await asyncio.gather(*(_one(command, core) for core in range(processes)))
    return {
        "rate": sum(1 / each["seconds"] for each in found),
        "seconds": sum(each["seconds"] for each in found) / processes,
        "peak": max(each["peak"] for each in found),
    }


async def _one(command: list[str], core: int) -> Sample:
    pinned = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
    return await measured_by(*pinned, *command)
