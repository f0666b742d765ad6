"""`make backup TO=` and `make restore FROM=`: everything that a Gristmill on one machine knows, in one folder.

All documents are read as they were at one moment, while Gristmill goes on writing. From before that moment until all
blobs are copied none is deleted, so the copy has each that its documents name. Nothing outlives this process, however
it ends: mongod isn't locked, and the kernel lets go of the blobs (docs/decisions/0030-backup-by-snapshot-reads.md).

An upload that is under way begins again after a restore.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from bson import decode_file_iter
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from common.mongo.client import Document
from deploy.local import mongod
from deploy.local.checks import LOCK, CheckError, only_one
from deploy.local.logs import open_log
from deploy.local.settings import LocalSettings
from deploy.local.supervisor import die_with_runner
from services.blob.adapters.filesystem.locks import nothing_deleted

PARTS = ("database", "blobs", "keys")
_OF_BLOB = ("blobs", "known-keys")  # and neither staging nor uploads
_OF_MONGODB = ("admin", "config", "local")
_CONNECT_MILLISECONDS = 3000
_DOCUMENTS_AT_ONCE = 100
_SNAPSHOT_TOO_OLD, _SNAPSHOT_UNAVAILABLE = 239, 246

Say = Callable[[str], None]
_Client = MongoClient[Document]


class BackupError(Exception):
    """Nothing was backed up or restored; the message says what to do."""


def backup(settings: LocalSettings, to: Path, say: Say) -> None:
    """Copy what `settings.data` holds into `to`, which is made. Raises `BackupError`, `MongodError`, `OSError`."""
    _check_embedded(settings)
    data = settings.data
    if not (data / "mongodb").is_dir():
        raise BackupError(f"There is nothing to back up in {settings.gristmill_data}: set GRISTMILL_DATA.")
    part = _new(to, "TO")
    try:
        with _database(data) as client, nothing_deleted(data / "blobs"), _one_moment(client) as session:
            say("Copying the database ...")
            _dump(session, part / "database")
            say("Copying the blobs ...")
            for name in _OF_BLOB:
                if (data / "blobs" / name).is_dir():
                    _copy(data / "blobs" / name, part / "blobs" / name)
        _copy(data / "keys", part / "keys")
        _sync(part)
        part.rename(to)
    except PyMongoError as error:
        raise BackupError(_explain(error, settings)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"Backed up to {to}. It holds all keys: keep it as safe as {settings.gristmill_data}.")


def restore(settings: LocalSettings, source: Path, say: Say) -> None:
    """Put a backup into `settings.data`, which has to be empty. Raises `BackupError`, `MongodError`, `OSError`."""
    _check_embedded(settings)
    if not all((source / part).is_dir() for part in PARTS):
        raise BackupError(f"{source} is not a backup: it has to have the folders {', '.join(PARTS)}.")
    part = _new(settings.data, "GRISTMILL_DATA")
    try:
        say("Copying ...")
        for name in ("blobs", "keys"):
            _copy(source / name, part / name)
        (part / "mongodb").mkdir()
        with _started(part) as client:
            _load(client, source / "database")
        _sync(part)
        part.rename(settings.data)
    except (BSONError, PyMongoError) as error:
        raise BackupError(
            f"{source} can't be restored ({type(error).__name__}): either it is damaged, or there is no room for it."
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"Restored to {settings.gristmill_data}. `make up` goes on from there.")


def _check_embedded(settings: LocalSettings) -> None:
    if settings.mongodb_uri or settings.blob_store == "s3":
        raise BackupError(
            "This is for the embedded database and the filesystem; docs/operations.md says how to back up a replica "
            "set and a bucket."
        )


def _new(folder: Path, setting: str) -> Path:
    """A folder beside the one that is to be, which becomes it when all is there."""
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty: set {setting} to another folder.")
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True, mode=0o700)
    return part


@contextlib.contextmanager
def _database(data: Path) -> Iterator[_Client]:
    """The mongod of the Gristmill that runs, or else one that is started for as long as this lasts."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_one(data))
        except CheckError:
            port = (data / LOCK).read_text()
            if not port:
                raise BackupError("Gristmill is just starting: try again when it is ready.") from None
            client = _connect(int(port))
        else:
            client = stack.enter_context(_started(data))
        yield stack.enter_context(client)


@contextlib.contextmanager
def _started(data: Path) -> Iterator[_Client]:
    """A mongod that keeps the documents of `data`, and ends before this does or with it. Raises `MongodError`."""
    port = mongod.free_port()
    with (
        open_log(data / "logs" / "mongod.log") as log,
        subprocess.Popen(
            mongod.command(mongod.find_binary(), data / "mongodb", port),
            stdout=log,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            preexec_fn=die_with_runner(os.getpid()),
        ) as process,
    ):
        try:
            asyncio.run(mongod.initiate(port))
            with _connect(port) as client:
                yield client
        finally:
            process.terminate()
            process.wait()  # also when interrupted, for which `Popen` has no patience


def _connect(port: int) -> _Client:
    return MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=_CONNECT_MILLISECONDS)


@contextlib.contextmanager
def _one_moment(client: _Client) -> Iterator[ClientSession]:
    """All reads of this session are of the moment at which it begins, for as long as mongod keeps it: 5 minutes."""
    with client.start_session(snapshot=True) as session:
        client.front.jobs.find_one(session=session)  # the first read chooses the moment
        yield session


def _dump(session: ClientSession, folder: Path) -> None:
    """Write each collection to `<database>/<collection>.bson`, as mongodump does."""
    client = session.client
    folder.mkdir()
    for database in set(client.list_database_names()) - set(_OF_MONGODB):
        (folder / database).mkdir()
        for name in client[database].list_collection_names(filter={"type": "collection"}):
            with (folder / database / f"{name}.bson").open("xb") as file:
                for batch in client[database][name].find_raw_batches(session=session):
                    file.write(batch)


def _load(client: _Client, folder: Path) -> None:
    """Write what `_dump` has read. The services make the indexes when they start."""
    for path in folder.glob("*/*.bson"):
        with path.open("rb") as file:
            documents = decode_file_iter(file, CodecOptions(RawBSONDocument))
            while batch := list(islice(documents, _DOCUMENTS_AT_ONCE)):
                client[path.parent.name][path.stem].insert_many(batch, ordered=False)


def _explain(error: PyMongoError, settings: LocalSettings) -> str:
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _SNAPSHOT_TOO_OLD:
        return (
            "The database is so large that it can't be read in the 5 minutes for which mongod knows how all was: "
            f"stop Gristmill, and copy {settings.gristmill_data} itself."
        )
    if code == _SNAPSHOT_UNAVAILABLE:
        return "Collections or indexes are just being made: try again when Gristmill is ready."
    return f"mongod can't be read ({type(error).__name__}): see {settings.gristmill_data}/logs/mongod.log."


def _copy(source: Path, to: Path) -> None:
    try:
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("*.part"))
    except shutil.Error as error:  # of all files that could not be copied
        file, _, why = error.args[0][0]
        raise BackupError(f"{file} can't be copied: {why}.") from None


def _sync(folder: Path) -> None:
    """See to it that all of a folder is on disk."""
    for path in (folder, *folder.rglob("*")):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
