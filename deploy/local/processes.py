"""Which processes make up a Gristmill on one machine, and what each is told."""

import json
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local import mongod, seaweed, tokens
from deploy.local.keys import Keys
from deploy.local.seaweed import Seaweed
from deploy.local.settings import LocalSettings
from deploy.local.supervisor import Process

PROCFILE = Path(__file__).resolve().parents[2] / "Procfile"
# A person who has typed Ctrl-C waits: unfinished work is taken up again by the next start.
_DRAIN_SECONDS = "2"
# The last two are how tests kill a process at a named moment (common/crash.py).
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "CRASH_AT", "CRASH_MARK")
# First those that take work in, then those they call, and MongoDB last.
_STOP_STAGES = {"blob": 1, "job": 1, "mongod": 2, "seaweedfs": 2}
_PREFIXES = {"tracker": "FRONT_"}


def read_procfile(path: Path = PROCFILE) -> dict[str, list[str]]:
    """The command line of each process, by its name; `python` is the Python that runs this."""
    commands = {}
    for line in path.read_text().splitlines():
        name, _, command = line.partition(":")
        program, *arguments = shlex.split(command)
        commands[name] = [sys.executable if program == "python" else program, *arguments]
    return commands


def services(settings: LocalSettings, keys: Keys, mongodb_uri: str, environment: Mapping[str, str]) -> list[Process]:
    """All processes but mongod. A variable that the user has set goes before ours."""
    told = _told(settings, keys, mongodb_uri)
    processes = []
    for name, command in read_procfile().items():
        prefix = _PREFIXES.get(name, f"{name.upper()}_")
        # The credentials of an S3 of the user's own go to the one process that talks to it.
        with_s3 = name == "blob" and settings.blob_store == "s3" and not settings.embeds_s3
        prefixes = (prefix, "AWS_") if with_s3 else (prefix,)
        own = {key: value for key, value in environment.items() if key.startswith(prefixes) and value}
        variables = {**_base(environment), **told[prefix], **own}
        stage = _STOP_STAGES.get(name, 0)
        if name == "processor":
            names = [f"processor-{number}" for number in range(1, settings.processors + 1)]
            names = [name] if settings.processors == 1 else names
            processes += [Process(each, command, variables, stage) for each in names]
        else:
            processes.append(Process(name, command, variables, stage))
    return processes


def embedded_mongod(settings: LocalSettings, port: int, environment: Mapping[str, str]) -> Process:
    """The embedded mongod. Raises `mongod.MongodError` where there is none for this machine."""
    folder = settings.data / "mongodb"
    folder.mkdir(exist_ok=True)
    command = mongod.command(mongod.find_binary(), folder, port)
    variables = {**_base(environment), "LC_ALL": "C"}
    return Process("mongod", command, variables, _STOP_STAGES["mongod"], folder=folder)


def embedded_seaweed(settings: LocalSettings, keys: Keys, environment: Mapping[str, str]) -> Process:
    """The embedded S3. Raises `seaweed.SeaweedError` where there is none for this machine."""
    embedded = seaweed_of(settings, keys)
    # SIGTERM takes it half a minute; what it has answered for survives SIGKILL.
    return Process(
        "seaweedfs",
        embedded.command(),
        {**_base(environment), **embedded.environment()},
        _STOP_STAGES["seaweedfs"],
        signal.SIGKILL,
    )


def seaweed_of(settings: LocalSettings, keys: Keys) -> Seaweed:
    return Seaweed(settings.data / "seaweedfs", settings.s3_port, keys.s3_secret.read_text())


def blob_setup(settings: LocalSettings, keys: Keys, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command that makes the bucket ready, and its environment."""
    blob = next(process for process in services(settings, keys, "", environment) if process.name == "blob")
    return [sys.executable, "-m", "services.blob.setup"], dict(blob.environment)


def _base(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key in _KEPT or key.startswith("OTEL_")}


def _told(settings: LocalSettings, keys: Keys, mongodb_uri: str) -> dict[str, dict[str, str]]:
    blob_url, job_url = (f"http://127.0.0.1:{port}" for port in (settings.blob_port, settings.job_port))
    return {
        "FRONT_": {
            "FRONT_HOST": settings.front_host,
            "FRONT_PORT": str(settings.front_port),
            "FRONT_INTERNAL_PORT": str(settings.front_internal_port),
            "FRONT_MONGODB_URI": mongodb_uri,
            "FRONT_BLOB_URL": blob_url,
            "FRONT_JOB_URL": job_url,
            "FRONT_KEY_FILE": str(keys.private("front")),
            "FRONT_CALLERS_DIR": str(keys.callers_of("front")),
            "FRONT_TOKEN_ALGORITHMS": json.dumps([tokens.ALGORITHM]),
            "FRONT_TOKEN_SECRET_FILE": str(keys.users_secret),
            "FRONT_TOKEN_AUDIENCE": tokens.AUDIENCE,
            "FRONT_TOKEN_ISSUER": tokens.ISSUER,
            "FRONT_NOTICE_SECONDS": "0",
            "FRONT_DRAIN_SECONDS": _DRAIN_SECONDS,
        },
        "BLOB_": {
            "BLOB_PORT": str(settings.blob_port),
            "BLOB_DATA_PORT": str(settings.blob_data_port),
            "BLOB_DATA_DIR": str(settings.data / "blobs"),
            "BLOB_CALLERS_DIR": str(keys.callers_of("blob")),
            "BLOB_UPLOAD_KEY_FILE": str(keys.uploads_secret),
            "BLOB_NOTICE_SECONDS": "0",
            "BLOB_DRAIN_SECONDS": _DRAIN_SECONDS,
            "BLOB_STORE": settings.blob_store,
            **(_told_of_s3(settings, keys) if settings.embeds_s3 else {}),
        },
        "JOB_": {
            "JOB_PORT": str(settings.job_port),
            "JOB_MONGODB_URI": mongodb_uri,
            "JOB_FRONT_URL": f"http://127.0.0.1:{settings.front_internal_port}",
            "JOB_KEY_FILE": str(keys.private("job")),
            "JOB_CALLERS_DIR": str(keys.callers_of("job")),
            "JOB_NOTICE_SECONDS": "0",
            "JOB_DRAIN_SECONDS": _DRAIN_SECONDS,
        },
        "PROCESSOR_": {
            "PROCESSOR_JOB_URL": job_url,
            "PROCESSOR_BLOB_URL": blob_url,
            "PROCESSOR_KEY_FILE": str(keys.private("processor")),
            "PROCESSOR_DRAIN_SECONDS": _DRAIN_SECONDS,
        },
    }


def _told_of_s3(settings: LocalSettings, keys: Keys) -> dict[str, str]:
    embedded = seaweed_of(settings, keys)
    return {
        "BLOB_S3_ENDPOINT": embedded.endpoint,
        "BLOB_S3_BUCKET": "gristmill",
        "BLOB_S3_REGION": seaweed.REGION,
        **embedded.credentials(),
    }
