"""`make secrets`: the keys and passwords of a Gristmill in containers, made once and kept.

In a folder, `.data/deploy`: the keys as files (`deploy.local.keys`), which docker-compose.yml mounts, and all of it as
Secrets and ConfigMaps in `kubernetes.json`. The passwords are in `.env`, which Compose reads.
"""

import base64
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.settings import load
from deploy.local import keys
from deploy.local.keys import CALLERS, Keys

PASSWORDS = ("MONGODB_ROOT_PASSWORD", "MONGODB_FRONT_PASSWORD", "MONGODB_JOB_PASSWORD", "MONGODB_KEY")
_PASSWORD_BYTES = 30  # urlsafe, and without padding: no character of it means anything in a URI


class CredentialSettings(BaseSettings):
    """Where they go, and which database they are for."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    gristmill_data: Path = Field(Path(".data/deploy"), description="The folder of the keys.")
    env_file: Path = Field(Path(".env"), description="The file that Compose reads.")
    mongodb_uri: str | None = Field(None, description="A replica set of your own, for Kubernetes.")


def make(settings: CredentialSettings) -> None:
    """Make what isn't there yet; what is there stays as it is."""
    made = keys.ensure(settings.gristmill_data)
    for file in made.folder.rglob("*.*"):
        file.chmod(0o444)  # for the user of the containers; on this machine the folder is closed to others
    passwords = _passwords(settings.env_file)
    variables = {**passwords, "S3_SECRET_KEY": made.s3_secret.read_text()}
    _write(settings.env_file, "".join(f"{name}={value}\n" for name, value in variables.items()))
    objects = kubernetes(made, passwords, settings.mongodb_uri)
    _write(settings.gristmill_data / "kubernetes.json", json.dumps(objects, indent=1))


def kubernetes(made: Keys, passwords: dict[str, str], mongodb_uri: str | None = None) -> dict[str, Any]:
    """The Secrets and ConfigMaps that `deploy/k8s` refers to, but that of an S3 store's credentials."""

    def uri(user: str) -> bytes:
        password = passwords[f"MONGODB_{user.upper()}_PASSWORD"]
        inside = f"mongodb://{user}:{password}@mongodb:27017/?replicaSet=gristmill&authSource=admin"
        return (mongodb_uri or inside).encode()

    held = {
        "front": {
            "key.pem": made.private("front").read_bytes(),
            "mongodb-uri": uri("front"),
            "users.secret": made.users_secret.read_bytes(),
        },
        "blob": {"uploads.secret": made.uploads_secret.read_bytes()},
        "job": {"key.pem": made.private("job").read_bytes(), "mongodb-uri": uri("job")},
        "processor": {"key.pem": made.private("processor").read_bytes()},
        "mongodb": {
            name.removeprefix("MONGODB_").lower().replace("_", "-"): value.encode() for name, value in passwords.items()
        },
    }
    items = [
        _object("Secret", name, {key: base64.b64encode(value).decode() for key, value in data.items()})
        for name, data in held.items()
    ] + [
        _object("ConfigMap", f"{service}-callers", {f.name: f.read_text() for f in made.callers_of(service).iterdir()})
        for service in CALLERS
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _object(kind: str, name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": data}


def _passwords(file: Path) -> dict[str, str]:
    known = dict(line.split("=", 1) for line in file.read_text().splitlines()) if file.exists() else {}
    return {name: known.get(name) or secrets.token_urlsafe(_PASSWORD_BYTES) for name in PASSWORDS}


def _write(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)


if __name__ == "__main__":
    settings = load(CredentialSettings)
    make(settings)
    print(f"{settings.env_file} and {settings.gristmill_data}: keep both, and show them to nobody.", file=sys.stderr)  # noqa: T201 - this is a command
