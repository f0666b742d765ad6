"""`make backup TO=` and `make restore FROM=`: everything that a Gristmill on one machine knows, in one folder.

Beside a running Gristmill its mongod is locked (`fsync` with `lock`) for as long as its files are copied, and the blobs
are linked in that time too: so database and blobs are of one moment. A blob never changes, so links to it are enough
until it is copied. An upload that is under way begins again after a restore, since its parts do change.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from common.mongo.client import Document
from deploy.local.checks import CheckError, only_one
from deploy.local.settings import LocalSettings

PARTS = ("mongodb", "blobs", "keys")
# What mongod makes anew, and what says that one is running.
_NOT_DATA = shutil.ignore_patterns("mongod.lock", "mongod.log*", "diagnostic.data", "*.part")
_CONNECT_MILLISECONDS = 3000

Say = Callable[[str], None]


class BackupError(Exception):
    """Nothing was backed up or restored; the message says what to do."""


def backup(settings: LocalSettings, to: Path, say: Say) -> None:
    """Copy what `settings.data` holds into `to`, a folder that is made. Raises `BackupError`, `OSError`."""
    _check_embedded(settings)
    if not (settings.data / "mongodb").is_dir():
        raise BackupError(f"There is nothing to back up in {settings.gristmill_data}: set GRISTMILL_DATA.")
    part = _new(to)
    linked = settings.data / f"blobs.backup.{os.getpid()}"
    try:
        with _still(settings):
            say("Copying the database ...")
            shutil.copytree(settings.data / "mongodb", part / "mongodb", ignore=_NOT_DATA)
            shutil.copytree(settings.data / "blobs" / "blobs", linked, copy_function=os.link)
            shutil.copytree(settings.data / "keys", part / "keys", ignore=_NOT_DATA)
        say("Copying the blobs ...")
        shutil.copytree(linked, part / "blobs" / "blobs")
        _sync(part)
        part.rename(to)
    finally:
        shutil.rmtree(linked, ignore_errors=True)
        shutil.rmtree(part, ignore_errors=True)
    say(f"Backed up to {to}. It holds all keys: keep it as safe as {settings.gristmill_data}.")


def restore(settings: LocalSettings, source: Path, say: Say) -> None:
    """Copy a backup into `settings.data`, which has to be empty. Raises `BackupError`, `OSError`."""
    _check_embedded(settings)
    if not all((source / part).is_dir() for part in PARTS):
        raise BackupError(f"{source} is not a backup: it has to have the folders {', '.join(PARTS)}.")
    part = _new(settings.data)
    try:
        say("Copying ...")
        for name in PARTS:
            shutil.copytree(source / name, part / name)
        _sync(part)
        part.rename(settings.data)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"Restored to {settings.gristmill_data}. `make up` goes on from there.")


def _check_embedded(settings: LocalSettings) -> None:
    if settings.mongodb_uri or settings.blob_store == "s3":
        raise BackupError(
            "This is for the embedded database and the filesystem; docs/operations.md says how to back up a replica "
            "set and a bucket."
        )


def _new(folder: Path) -> Path:
    """A folder beside the one that is to be, which becomes it when all is there."""
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty: name another folder.")
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, mode=0o700)
    return part


@contextlib.contextmanager
def _still(settings: LocalSettings) -> Iterator[None]:
    """Within it nothing is written to the database: either nothing runs, or mongod is locked."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_one(settings.data))
        except CheckError:
            stack.enter_context(_locked(settings))
        yield


@contextlib.contextmanager
def _locked(settings: LocalSettings) -> Iterator[None]:
    client: MongoClient[Document] = MongoClient(
        "127.0.0.1",
        settings.mongodb_port,
        directConnection=True,
        serverSelectionTimeoutMS=_CONNECT_MILLISECONDS,
    )
    with client:
        try:
            options = client.admin.command("getCmdLineOpts")
            if Path(options["parsed"]["storage"]["dbPath"]) != settings.data / "mongodb":
                raise BackupError(f"The mongod at port {settings.mongodb_port} keeps other data: set MONGODB_PORT.")
            client.admin.command("fsync", lock=True)
        except PyMongoError as error:
            raise BackupError(
                f"A Gristmill runs here, but its mongod can't be locked at port {settings.mongodb_port} "
                f"({type(error).__name__}): set MONGODB_PORT, or stop it first."
            ) from None
        try:
            yield
        finally:
            client.admin.command("fsyncUnlock")


def _sync(folder: Path) -> None:
    """See to it that all of a folder is on disk."""
    for path in (folder, *folder.rglob("*")):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
