"""One large file, until it is on disk: straight to blob, through front, and to nginx and tus-node-server."""

import asyncio
import os
import random
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks import peers
from benchmarks.measure import Effort, Goal, Sample, Section, alternate, say
from benchmarks.memory import forget_peak, peak_mb, resident_mb
from benchmarks.receivers import Receiver, nginx, tus, versions
from benchmarks.system import System, system
from common.auth import ServiceTokenSigner
from common.ids import input_blob_id, new_id

SIZE = 1024**3
SMALL = 1024
MOST_GROWN_MB = 40
BLOB, FRONT, NGINX, TUS = (
    "Gristmill: blob",
    "Gristmill: through front",
    "nginx, DAV PUT + fsync",
    "tus-node-server + fsync",
)
DISK = "the disk alone: `dd conv=fsync`"


@dataclass(frozen=True, slots=True)
class Side:
    """How one side takes a file.

    `command` sends it, and begins anew each time. `fsync` and `remove` get what the command has printed: what is to
    be done until the file is on disk, which counts, and how to be rid of it, which doesn't. `processes` are watched,
    each under the name of its figures.
    """

    command: Callable[[Path], list[str]]
    remove: Callable[[str], Awaitable[None]]
    processes: Mapping[str, int]
    fsync: Callable[[str], None] | None = None


async def run(effort: Effort, folder: Path) -> Section:
    size = effort.of(SIZE)
    section = Section(
        "upload",
        "A large file, until it is on disk",
        f"{size / 2**20:,.0f} MiB from curl (`-T`, HTTP/1.1, with a Content-Length), read from the page cache, on the "
        "same disk for all, which is synced before each measurement. blob and front answer after their own fsync, and "
        "have the SHA-256 then; nginx (one worker, a body buffer of 64 KiB, the best for it here) and "
        "tus-node-server (creation with upload) do neither, so what they have kept is fsynced after their response, "
        "its folder too, within the time. curl, the servers and the kernel's writing share the machine's cores. "
        "Memory: the peak of what is resident during the upload, and how much that is more than after one small "
        "upload at the very beginning; of nginx master and worker.",
        {
            "rate": "MB/s",
            "seconds": "s",
            "peak": "peak RSS, MB",
            "grown": "over idle, MB",
            "front_peak": "front: peak RSS, MB",
            "front_grown": "front: over idle, MB",
        },
    )
    say("  Making a file ...")
    large, small = (folder / name for name in ("large", "small"))
    await asyncio.to_thread(fill, large, size)
    await asyncio.to_thread(fill, small, SMALL)
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(system(folder / "gristmill", ["front", "blob", "job"]))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        await up.offer("nothing")
        sides = _ours(up, http)
        sides[DISK] = _disk(folder)
        try:
            sides[NGINX] = _nginx(await stack.enter_async_context(nginx(folder / "nginx")))
            sides[TUS] = _tus(await stack.enter_async_context(tus(folder / "tus")))
            section.versions = await versions()
        except peers.MissingPeerError as missing:
            section.notes.append(f"A peer is missing: {missing}")
        idle = {}
        for name, side in sides.items():
            await _send(side, small)
            idle[name] = {figure: resident_mb(pid) for figure, pid in side.processes.items()}
        section.results = await alternate(
            {name: partial(_measure, side, large, size, idle[name]) for name, side in sides.items()}, effort
        )
    _compare(section)
    return section


def _compare(section: Section) -> None:
    rate = {side: result.median("rate") for side, result in section.results.items()}
    for ours, peer, bound in ((BLOB, NGINX, 0.8), (FRONT, NGINX, 0.7), (FRONT, TUS, 1.25)):
        if peer in rate:
            section.goals.append(Goal(f"MB/s, {ours}, against {peer}", rate[ours] / rate[peer], bound))
    grown = {
        "blob": max(section.results[side].median("grown") for side in (BLOB, FRONT)),
        "front": section.results[FRONT].median("front_grown"),
    }
    for process, most in grown.items():
        section.goals.append(Goal(f"RSS of {process} over idle, MB", most, MOST_GROWN_MB, at_most=True))
    section.notes.append(f"MB/s, {BLOB}, against {DISK}: {rate[BLOB] / rate[DISK]:.2f}.")


async def _measure(side: Side, file: Path, size: int, idle: Mapping[str, float]) -> Sample:
    await asyncio.to_thread(clear, file)
    for pid in side.processes.values():
        forget_peak(pid)
    seconds = await _send(side, file)
    sample = {"rate": size / 1e6 / seconds, "seconds": seconds}
    for figure, pid in side.processes.items():
        peak = peak_mb(pid)
        sample |= {f"{figure}peak": peak, f"{figure}grown": peak - idle[figure]}
    return sample


async def _send(side: Side, file: Path) -> float:
    """Seconds until the file is on disk."""
    command = side.command(file)
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said.decode()[-500:]}")
    if side.fsync is not None:
        await asyncio.to_thread(side.fsync, said.decode())
    seconds = time.monotonic() - started
    await side.remove(said.decode())
    return seconds


def curl(method: str, url: str, headers: Mapping[str, str], file: Path) -> list[str]:
    sent = [part for name, value in {**headers, "Expect": ""}.items() for part in ("-H", f"{name}: {value}".strip())]
    return ["curl", "-sSi", "--fail-with-body", "-X", method, *sent, "-T", str(file), url]


def _location(said: str) -> str:
    found = re.search(r"^location: *(\S+)", said, re.IGNORECASE | re.MULTILINE)
    if found is None:
        raise RuntimeError(f"There is no Location: {said[-500:]}")
    return found[1].rpartition("/")[2]


def _ours(up: System, http: aiohttp.ClientSession) -> dict[str, Side]:
    signer = ServiceTokenSigner.from_file("front", up.keys.private("front"))
    pids = up.supervisor.running

    def headers() -> dict[str, str]:
        return {"Authorization": f"Bearer {signer.token('blob')}"}

    def to_blob(file: Path) -> list[str]:
        return curl("PUT", f"{up.blob_url}/api/v1/blob/{input_blob_id(new_id())}", headers(), file)

    def to_front(file: Path) -> list[str]:
        known = {"Authorization": f"Bearer {up.token('alice')}", "Content-Type": "application/octet-stream"}
        return curl("POST", f"{up.front_url}/api/v1/job?processor=nothing", known, file)

    async def remove(blob_id: str) -> None:
        async with http.delete(f"{up.blob_url}/api/v1/blob/{blob_id}", headers=headers()) as response:
            response.raise_for_status()

    async def remove_blob(said: str) -> None:
        await remove(re.findall(r'"id":"([^"]+)"', said)[-1])

    async def remove_input(said: str) -> None:
        await remove(input_blob_id(_location(said)))

    return {
        BLOB: Side(to_blob, remove_blob, {"": pids["blob"]}),
        FRONT: Side(to_front, remove_input, {"": pids["blob"], "front_": pids["front"]}),
    }


def _nginx(peer: Receiver) -> Side:
    path = peer.folder / "file"

    async def remove(_said: str) -> None:
        await asyncio.to_thread(path.unlink)

    return Side(
        lambda file: curl("PUT", f"{peer.url}/{path.name}", {}, file), remove, {"": peer.pid}, lambda _: _fsync(path)
    )


def _tus(peer: Receiver) -> Side:
    def command(file: Path) -> list[str]:
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(file.stat().st_size),
            "Content-Type": "application/offset+octet-stream",
        }
        return curl("POST", f"{peer.url}/files", headers, file)

    async def remove(said: str) -> None:
        for path in peer.folder.glob(f"{_location(said)}*"):
            await asyncio.to_thread(path.unlink)

    return Side(command, remove, {"": peer.pid}, lambda said: _fsync(peer.folder / _location(said)))


def _disk(folder: Path) -> Side:
    path = folder / "copy"

    async def remove(_said: str) -> None:
        await asyncio.to_thread(path.unlink)

    return Side(lambda file: ["dd", f"if={file}", f"of={path}", "bs=1M", "conv=fsync", "status=none"], remove, {})


def clear(file: Path) -> None:
    """Let nothing be left of the last side: neither what it has to write, nor the lack of what it has used up.

    A virtual machine gives free memory back to its host, and has to ask for it again page by page, which takes longer
    than all else. So as much as will be needed is used once, and freed, without a byte of it going to disk.
    """
    os.sync()
    used = file.with_name("used")
    shutil.copyfile(file, used)
    used.unlink()


def _fsync(path: Path) -> None:
    for each in (path, path.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def fill(path: Path, size: int) -> None:
    block = random.randbytes(1024**2)
    with path.open("wb") as file:
        for position in range(0, size, len(block)):
            file.write(block[: size - position])
