"""The services' keys, made in memory: what `callers_dir` and `key_file` hold in a real installation."""

from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.auth import ServiceTokenSigner, ServiceTokenVerifier

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
