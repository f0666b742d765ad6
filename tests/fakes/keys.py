"""The services' keys, made in memory: what `callers_dir` and `key_file` hold in a real installation."""

import base64
import hashlib
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.auth import ServiceTokenSigner, ServiceTokenVerifier
from services.blob.adapters.filesystem.master_keys import MasterKeys

CALLERS = ("front", "processor", "job")
UPLOAD_KEY = b"what signs the URLs of uploads, in tests"


@cache
def private_key(caller: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def signer(caller: str) -> ServiceTokenSigner:
    """What makes `caller`'s tokens."""
    return ServiceTokenSigner(caller, private_key(caller))


def verifier(audience: str) -> ServiceTokenVerifier:
    """What `audience` checks tokens with; it knows every caller."""
    return ServiceTokenVerifier(audience, {caller: [private_key(caller).public_key()] for caller in CALLERS})


def upload_key_file(folder: Path) -> Path:
    """The key that blob signs upload URLs with, in a file."""
    path = folder / "uploads.secret"
    path.write_bytes(UPLOAD_KEY)
    return path


def master_key(name: str) -> bytes:
    """A key that files are encrypted under: the same for the same name."""
    return hashlib.sha256(name.encode()).digest()


def master_keys(*names: str) -> MasterKeys:
    return MasterKeys({name: master_key(name) for name in names})


def key_folder(folder: Path, *names: str) -> Path:
    """A folder with these keys, and no others."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name in names:
        (folder / name).write_bytes(base64.b64encode(master_key(name)) + b"\n")
    return folder
