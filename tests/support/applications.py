"""The four HTTP applications, built by the services' own composition roots over stand-ins for one another."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI
from starlette.types import ASGIApp

from common.contracts.job import RunStatus
from tests.fakes.keys import CALLERS, private_key


@dataclass(frozen=True)
class Application:
    """`served` is what the server calls; `routes` is the FastAPI application in it."""

    name: str
    served: ASGIApp
    routes: FastAPI

    @property
    def service(self) -> str:
        """Whose it is: a service may have a second application, at a port of its own."""
        return self.name.partition("-")[0]


class DeafFront:
    """Hears no reports; none is made here."""

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        raise NotImplementedError


def write_keys(folder: Path) -> tuple[Path, Path]:
    """A private key's file, and the folder with the public keys of all callers."""
    callers = folder / "callers"
    callers.mkdir()
    for name in CALLERS:
        public = private_key(name).public_key()
        (callers / f"{name}.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    key_file = folder / "front.pem"
    key_file.write_bytes(private_key("front").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key_file, callers


async def until_ready(application: Application) -> None:
    """Wait until it has reached its database: to close a client that is just connecting leaks its socket."""
    transport = httpx.ASGITransport(application.served)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client, asyncio.timeout(10):
        while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - it waits for a part that tells nobody
            await asyncio.sleep(0.01)
