"""A backup that is made beside a running Gristmill starts as another one: with the same jobs, bytes and tokens."""

import asyncio
import base64
import contextlib
import sys
from pathlib import Path

import pytest
from bson import encode
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from common.mongo.client import Document
from deploy.local.backup import BackupError, backup, restore
from deploy.local.checks import LOCK, only_one
from deploy.local.settings import LocalSettings
from tests.support.journey import CONTENT, assert_completes, ended, hand_in, logged, stopped
from tests.support.local import environment, running
from tests.support.small_disk import small_disk


async def make(what: str, folder: Path, environment: dict[str, str]) -> str:
    """What `make backup` and `make restore` run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.local", what, str(folder), env=environment, stdout=-1, stderr=-2
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_what_ends_while_a_backup_is_made_can_be_done_again_from_it(tmp_path: Path) -> None:
    keys, copy = tmp_path / "keys", tmp_path / "copy"
    keys.mkdir()
    (keys / "2026-12").write_bytes(base64.b64encode(bytes(32)))
    first = {**environment(tmp_path / "first"), "BLOB_KEYS": str(keys)}
    loop, database_copied, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def say(line: str) -> None:
        if line.startswith("Copying the blobs"):
            loop.call_soon_threadsafe(database_copied.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()

    async with running(first) as local, local.client() as http, asyncio.TaskGroup() as group:
        with stopped(local, "services.processor"):
            waiting = await hand_in(http)
            settings = LocalSettings(gristmill_data=local.data)
            backing_up = group.create_task(asyncio.to_thread(backup, settings, copy, say))
            await database_copied.wait()
        await assert_completes(http, waiting)
        # Its input is due now, which the copy still needs.
        await logged(local, "blob", "request.completed", method="DELETE")
        go_on.set()
        await backing_up
        await logged(local, "blob", "request.completed", method="DELETE", status=204)

    second = {**environment(tmp_path / "second"), "BLOB_KEYS": str(keys)}
    await make("restore", copy, second)
    # Without this a key that is lost would be noticed by readers only.
    assert [known.name for known in (tmp_path / "second/blobs/known-keys").iterdir()] == ["2026-12"]
    async with running(second) as local, local.client() as http:
        await assert_completes(http, waiting)


@pytest.mark.long
async def test_what_is_restored_goes_on_where_the_backup_was_made(tmp_path: Path) -> None:
    first = environment(tmp_path / "first")
    copy = tmp_path / "copy"
    async with running(first) as local, local.client() as http:
        done = await hand_in(http)
        await ended(http, done)
        output = (await http.get(f"{done}/output")).raise_for_status()
        with stopped(local, "services.processor"):
            waiting = await hand_in(http)
            # On whatever port its mongod listens.
            assert f"Backed up to {copy}" in await make("backup", copy, {**first, "MONGODB_PORT": "1"})
            later = await hand_in(http)
        assert (await ended(http, later))["status"] == "EXECUTION_COMPLETED"
        bearer = http.headers["Authorization"]

    second = environment(tmp_path / "second")
    await make("restore", copy, second)
    async with running(second) as local, local.client() as http:
        http.headers["Authorization"] = bearer
        assert (await http.get(f"{done}/output")).raise_for_status().content == output.content
        assert (await ended(http, waiting))["status"] == "EXECUTION_COMPLETED"
        assert (await http.get(later)).status_code == 404, "it came after the backup"
        new = await hand_in(http, CONTENT + b", again")
        assert (await ended(http, new))["status"] == "EXECUTION_COMPLETED"

    # Nothing runs now, so that a mongod is started for it.
    await make("backup", tmp_path / "cold", second)
    third = environment(tmp_path / "third")
    await make("restore", tmp_path / "cold", third)
    async with running(third) as local, local.client() as http:
        http.headers["Authorization"] = bearer
        for job in (done, waiting, new):
            assert (await ended(http, job))["status"] == "EXECUTION_COMPLETED"


@pytest.mark.long
async def test_a_moment_that_mongod_does_not_know_any_more_or_yet_is_said(tmp_path: Path) -> None:
    settings = LocalSettings(gristmill_data=tmp_path / "data")

    def make_a_collection(line: str) -> None:
        with MongoClient[Document]("127.0.0.1", port) as client:
            client.front.create_collection("later")

    def let_it_forget(line: str) -> None:
        """Write until mongod has forgotten how all was when this line was said."""
        with MongoClient[Document]("127.0.0.1", port) as client, client.start_session(snapshot=True) as session:
            client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=0)
            with contextlib.suppress(OperationFailure):
                while client.front.tasks.find_one({"_id": line}, session=session) is None:
                    client.front.tasks.replace_one({"_id": line}, {}, upsert=True)

    async with running(environment(settings.data)):
        port = int((settings.data / LOCK).read_text())
        with pytest.raises(BackupError, match="are just being made"):
            await asyncio.to_thread(backup, settings, tmp_path / "to", make_a_collection)
        with pytest.raises(BackupError, match="so large that"):
            await asyncio.to_thread(backup, settings, tmp_path / "to", let_it_forget)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mongodb_uri": "mongodb://elsewhere/"}, "docs/operations.md says"),
        ({"blob_store": "s3"}, "docs/operations.md says"),
        ({}, "There is nothing to back up in"),
    ],
    ids=["other-database", "s3", "no-data"],
)
def test_what_cannot_be_backed_up_is_said(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(BackupError, match=said):
        backup(LocalSettings.model_validate({"gristmill_data": tmp_path / "data", **settings}), tmp_path / "to", print)
    assert not (tmp_path / "to").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    settings = LocalSettings(gristmill_data=tmp_path / "data")
    (tmp_path / "data" / "mongodb").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(BackupError, match="is not a backup"):
        restore(settings, tmp_path / "other", print)
    for name in ("database", "blobs", "keys"):
        (tmp_path / "other" / name).mkdir()
    with pytest.raises(BackupError, match="data is not empty: set GRISTMILL_DATA "):
        restore(settings, tmp_path / "other", print)
    with pytest.raises(BackupError, match="other is not empty: set TO "):
        backup(settings, tmp_path / "other", print)


def test_a_gristmill_that_is_just_starting_is_not_backed_up(tmp_path: Path) -> None:
    settings = LocalSettings(gristmill_data=tmp_path / "data")
    (settings.data / "mongodb").mkdir(parents=True)
    (settings.data / LOCK).write_text("27117")  # of an older start
    with only_one(settings.data), pytest.raises(BackupError, match="is just starting: try again"):
        backup(settings, tmp_path / "to", print)


def test_a_damaged_backup_is_said_and_not_restored(tmp_path: Path) -> None:
    for folder in ("database/front", "blobs", "keys"):
        (tmp_path / "copy" / folder).mkdir(parents=True)
    (tmp_path / "copy" / "database" / "front" / "jobs.bson").write_bytes(encode({"_id": "one"})[:-3])
    with pytest.raises(BackupError, match="copy can't be restored "):
        restore(LocalSettings(gristmill_data=tmp_path / "data"), tmp_path / "copy", print)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    settings = LocalSettings(gristmill_data=tmp_path / "data")
    for folder in ("mongodb", "blobs/blobs", "keys"):
        (settings.data / folder).mkdir(parents=True)
    for name in ("one", "two"):
        (settings.data / "blobs" / "blobs" / name).write_bytes(bytes(2**20))
    with small_disk(tmp_path / "disk", 2**20) as disk:
        with pytest.raises(BackupError, match=r"^[^\n]*/(one|two) can't be copied: [^\n]*No space left[^\n]*\.$"):
            backup(settings, disk / "to", print)
        assert list(disk.iterdir()) == []
