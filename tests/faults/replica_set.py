"""A replica set of three real mongods on loopback, which elects a new primary within a second or two."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from common.mongo.client import Document
from deploy.local import mongod

READY_SECONDS = 60


@dataclass(frozen=True)
class ReplicaSet:
    """Its nodes, by their ports."""

    nodes: dict[int, asyncio.subprocess.Process]

    @property
    def uri(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.nodes)
        return f"mongodb://{hosts}/?replicaSet={mongod.REPLICA_SET}"

    async def primary(self) -> int:
        """The port of the node that takes writes, once there is one."""
        while True:
            for port, process in self.nodes.items():
                if process.returncode is None and (await _hello(port)).get("isWritablePrimary"):
                    return port
            await asyncio.sleep(0.05)

    async def kill_primary(self) -> int:
        """SIGKILL, and the port of the node that is gone."""
        port = await self.primary()
        self.nodes[port].kill()
        await self.nodes[port].wait()
        return port


@asynccontextmanager
async def three_nodes(folder: Path) -> AsyncIterator[ReplicaSet]:
    ports = mongod.free_ports(3)
    binary = mongod.find_binary()
    nodes: dict[int, asyncio.subprocess.Process] = {}
    try:
        for port in ports:
            data = folder / str(port)
            data.mkdir(parents=True)
            nodes[port] = await asyncio.create_subprocess_exec(
                *mongod.command(binary, data, port),
                stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
            )
        async with asyncio.timeout(READY_SECONDS):
            # A member that doesn't answer yet makes `replSetInitiate` fail.
            for port in ports:
                while not await _hello(port):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(_command, ports[0], "replSetInitiate", _config(ports))
            found = ReplicaSet(nodes)
            await found.primary()
        yield found
    finally:
        for process in nodes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


def _config(ports: list[int]) -> Document:
    members = [{"_id": number, "host": f"127.0.0.1:{port}"} for number, port in enumerate(ports)]
    quick = {"electionTimeoutMillis": 1_000, "heartbeatIntervalMillis": 250, "heartbeatTimeoutSecs": 2}
    return {"_id": mongod.REPLICA_SET, "members": members, "settings": quick}


async def _hello(port: int) -> Document:
    """What a node says of itself; nothing while it doesn't answer."""
    try:
        return await asyncio.to_thread(_command, port, "hello")
    except PyMongoError:
        return {}


def _command(port: int, name: str, value: object = 1) -> Document:
    with MongoClient[Document]("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500) as client:
        return dict(client.admin.command(name, value))
