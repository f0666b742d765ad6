"""front's key is changed under way, by the steps of docs/operations.md: both are good in between, one at the end."""

import asyncio
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from common.auth import ServiceTokenSigner
from common.clients.blob import open_blob_client
from common.errors import Unauthorized
from deploy.local import keys
from tests.support.journey import ended, hand_in
from tests.support.local import Local, environment, running

pytestmark = pytest.mark.long


async def works(local: Local, http: httpx.AsyncClient) -> None:
    location = await hand_in(http)
    assert (await ended(http, location))["status"] == "EXECUTION_COMPLETED"
    assert (await http.get(f"{location}/output")).is_success


async def restart(local: Local, *modules: str) -> None:
    await asyncio.gather(*map(local.kill, modules))


async def lists(url: str, key: Path) -> None:
    """A call that only front may make."""
    async with open_blob_client(url, ServiceTokenSigner.from_file("front", key)) as blob:
        await blob.list()


async def test_a_services_key_is_rotated_with_an_overlap(tmp_path: Path) -> None:
    async with running(environment(tmp_path / "data")) as local, local.client() as http:
        own = keys.ensure(local.data)
        in_use, old, new = own.private("front"), tmp_path / "old.pem", tmp_path / "new.pem"
        old.write_bytes(in_use.read_bytes())
        private = Ed25519PrivateKey.generate()
        new.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(Unauthorized):
            await lists(local.blob_url, new)

        for service in ("blob", "job"):
            (own.callers_of(service) / "front.2.pem").write_bytes(public)
        await restart(local, "services.blob", "services.job")
        await works(local, http)
        await lists(local.blob_url, new)

        new.replace(in_use)
        await restart(local, "services.front", "services.front.tracker")
        await works(local, http)

        for service in ("blob", "job"):
            (own.callers_of(service) / "front.2.pem").replace(own.callers_of(service) / "front.pem")
        await restart(local, "services.blob", "services.job")
        await works(local, http)
        with pytest.raises(Unauthorized):
            await lists(local.blob_url, old)
