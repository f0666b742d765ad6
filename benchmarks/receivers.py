"""nginx with its DAV module, and tus-node-server, each as one process that takes files and doesn't fsync them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import say
from benchmarks.report import printed
from benchmarks.system import answers
from deploy.local import mongod
from deploy.local.supervisor import Process, Supervisor

# A buffer of 64 KiB cost it less than its default of 16 KiB, and than 1 MiB. What isn't said here is its default.
_NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_buffer_size {buffer};
    client_body_temp_path {folder}/temp;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/kept;
        location / {{ dav_methods PUT; }}
        location = /ready {{ return 204; }}
    }}
}}
"""
NGINX_BUFFER = "64k"


@dataclass(frozen=True, slots=True)
class Receiver:
    """A peer that runs: its address, the folder that its files are in, its process."""

    url: str
    folder: Path
    pid: int


@asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[Receiver]:
    """`PUT /NAME` keeps a body as `folder/NAME`. Raises `MissingPeerError`."""
    binary = await asyncio.to_thread(peers.debian, "nginx", "nginx")
    port = mongod.free_port()
    kept = folder / "kept"
    kept.mkdir(parents=True)
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, buffer=NGINX_BUFFER))
    command = [binary, "-c", str(config), "-e", "stderr"]
    async with _running("nginx", command, folder, port) as pid:
        yield Receiver(f"http://127.0.0.1:{port}", kept, pid)


@asynccontextmanager
async def tus(folder: Path) -> AsyncIterator[Receiver]:
    """`POST /files` keeps a body as `folder/ID`, where the ID ends its `Location`. Raises `MissingPeerError`."""
    modules = await asyncio.to_thread(peers.node)
    port = mongod.free_port()
    kept = folder / "kept"
    kept.mkdir(parents=True)
    command = ["node", str(peers.RIVALS / "tus.mjs"), str(port), str(kept), str(modules)]
    async with _running("tus", command, folder, port) as pid:
        yield Receiver(f"http://127.0.0.1:{port}", kept, pid)


async def versions() -> dict[str, str]:
    """What was installed. Call it inside both."""
    found = await asyncio.to_thread(peers.node_versions, "@tus/server", "@tus/file-store")
    return {**found, "nginx": await asyncio.to_thread(printed, peers.debian("nginx", "nginx"), "-v")}


@asynccontextmanager
async def _running(name: str, command: list[str], folder: Path, port: int) -> AsyncIterator[int]:
    async with Supervisor(folder / "logs", say) as supervisor:
        await supervisor.start(Process(name, command, dict(os.environ)))
        await answers(f"http://127.0.0.1:{port}/ready")
        yield supervisor.running[name]
