"""The keys of a Gristmill on one machine, made once and kept under `.data/keys/`.

`front.pem`, `job.pem`, `processor.pem` are private keys; `callers-of-<service>/` holds the public halves of those that
may call it; `users.secret` signs the tokens of users; `uploads.secret` the URLs that
blob gives out; `s3.secret` is that of the embedded S3's only key.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

CALLERS = {"blob": ("front", "processor"), "job": ("front", "processor"), "front": ("job",)}
_SECRET_BYTES = 48


@dataclass(frozen=True)
class Keys:
    """The files of keys in one folder."""

    folder: Path

    @property
    def users_secret(self) -> Path:
        return self.folder / "users.secret"

    @property
    def s3_secret(self) -> Path:
        return self.folder / "s3.secret"

    @property
    def uploads_secret(self) -> Path:
        return self.folder / "uploads.secret"

    def private(self, caller: str) -> Path:
        return self.folder / f"{caller}.pem"

    def callers_of(self, service: str) -> Path:
        return self.folder / f"callers-of-{service}"


def ensure(data: Path) -> Keys:
    """Make the keys that aren't there yet."""
    keys = Keys(data / "keys")
    keys.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for secret in (keys.users_secret, keys.s3_secret):
        _create(secret, secrets.token_urlsafe(_SECRET_BYTES).encode())
    _create(keys.uploads_secret, secrets.token_bytes(_SECRET_BYTES))
    for service, callers in CALLERS.items():
        for caller in callers:
            public = _public_half(keys.private(caller))
            keys.callers_of(service).mkdir(exist_ok=True)
            known = keys.callers_of(service) / f"{caller}.pem"
            if not known.exists() or known.read_bytes() != public:
                _part(known, public).replace(known)
    return keys


def _public_half(private: Path) -> bytes:
    _create(private, Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = load_pem_private_key(private.read_bytes(), password=None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _create(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all; one that is there already stays as it is.

    `make token` may run beside the first `make up`: both have to end with the same keys.
    """
    if path.exists():
        return
    part = _part(path, content)
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(part)
    part.unlink()


def _part(path: Path, content: bytes) -> Path:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return part
