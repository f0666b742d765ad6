"""What is looked at before anything is started, so that a fault is one sentence and not a log."""

import difflib
import errno
import fcntl
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from common.mongo.client import Document
from deploy.local.settings import LocalSettings, TokenSettings
from gristmill.faults import unknown

NEARLY = 0.85  # of `difflib`: one letter in seven is another
PREFIXES = ("FRONT_", "BLOB_", "JOB_", "PROCESSOR_")

NEEDED_BYTES = 1024**3
MONGODB_SECONDS = 5
LOCK = "lock"  # in the folder of the data; it holds the port of the mongod that runs there


class CheckError(Exception):
    """Nothing can be started; the message says what to do."""


def check_ports(ports: Mapping[str, tuple[str, int]]) -> None:
    """`ports` gives each setting's address. Raises `CheckError` when one is taken, or named twice."""
    seen: dict[int, str] = {}
    for setting, (host, port) in ports.items():
        if port in seen:
            raise CheckError(f"{seen[port]} and {setting} are both {port}: give one of them another port.")
        seen[port] = setting
        error = _bind(host, port)
        if isinstance(error, socket.gaierror) or (error and error.errno == errno.EADDRNOTAVAIL):
            raise CheckError(f"{host} is no address of this machine: set FRONT_HOST to 127.0.0.1 or 0.0.0.0.")
        if error and error.errno in (errno.EACCES, errno.EPERM):
            raise CheckError(f"Port {port} ({setting}) needs rights that you don't have: set {setting} above 1023.")
        if error:
            raise CheckError(f"Port {port} ({setting}) is taken: stop what listens there, or set {setting} to another.")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen at this address."""
    return _bind(host, port) is None


def _bind(host: str, port: int) -> OSError | None:
    """What keeps a server from listening at this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the servers do: a port that only has old connections in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def check_room(data: Path, needed_bytes: int = NEEDED_BYTES) -> None:
    """Make the folder of the data. Raises `CheckError` when it can't be made or its volume is nearly full."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(data).free
    except OSError as error:
        raise CheckError(f"{data} can't hold the data ({error}): set GRISTMILL_DATA to another folder.") from None
    if free < needed_bytes:
        raise CheckError(
            f"There is no room: {free / 1e9:.1f} GB are free at {data}, and {needed_bytes / 1e9:.1f} GB are needed; "
            "free some, or set GRISTMILL_DATA to a folder elsewhere."
        )


def check_mongodb(uri: str) -> None:
    """Raises `CheckError` when the user's own MongoDB can't be reached within 5 s, or doesn't know the user."""
    try:
        with MongoClient[Document](uri, serverSelectionTimeoutMS=MONGODB_SECONDS * 1000) as client:
            client.admin.command("ping")
    except (ConfigurationError, ValueError):
        raise CheckError(
            "MONGODB_URI can't be used: it should be like mongodb://host:27017/?replicaSet=name, or mongodb+srv:// "
            "and a name that DNS knows."
        ) from None
    except OperationFailure as error:
        raise CheckError(f"MONGODB_URI, {_named(uri)}, refuses the user that it names (code {error.code}).") from None
    except PyMongoError:
        raise CheckError(
            f"MONGODB_URI, {_named(uri)}, can't be reached: no primary was found within {MONGODB_SECONDS} s."
        ) from None


def _named(uri: str) -> str:
    """The URI without what may be secret: user, password and options."""
    return re.sub("//.*@", "//", uri).partition("?")[0]


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data for this runner. Raises `CheckError` while another does; a dead one holds nothing."""
    with (data / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckError(
                f"Gristmill runs already with the data in {data}: stop it, or set GRISTMILL_DATA to another folder."
            ) from None
        file.truncate(0)
        yield


def check_names(environment: Mapping[str, str]) -> None:
    """Raises `CheckError` for a variable that is nearly a setting of ours: it would do nothing, silently. Others that
    begin like ours may be somebody else's, such as `JOB_NAME` of a build server.
    """
    ours = [name for name in environment if name.startswith(PREFIXES)]
    known = {name.upper() for kind in (LocalSettings, TokenSettings) for name in kind.model_fields}
    if not set(ours) - known:
        return
    # Imported only now: most who start it set nothing of the services.
    from services.blob.settings import Settings as BlobSettings
    from services.front.settings import Settings as FrontSettings
    from services.front.settings import TrackerSettings
    from services.job.settings import Settings as JobSettings
    from services.processor.settings import Settings as ProcessorSettings

    of_services = (FrontSettings, TrackerSettings, BlobSettings, JobSettings, ProcessorSettings)
    for kind in of_services:
        known |= {(kind.model_config.get("env_prefix", "") + name).upper() for name in kind.model_fields}
    for name in ours:
        if name not in known and difflib.get_close_matches(name, known, 1, NEARLY):
            raise CheckError(unknown(name, known, "setting"))
