"""A backup that is made beside a running Gristmill starts as another one: with the same jobs, bytes and tokens."""

import asyncio
import sys
from pathlib import Path

import pytest

from deploy.local.backup import BackupError, backup, restore
from deploy.local.settings import LocalSettings
from tests.support.journey import CONTENT, ended, hand_in, stopped
from tests.support.local import environment, running


async def make(what: str, folder: Path, environment: dict[str, str]) -> str:
    """What `make backup` and `make restore` run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.local", what, str(folder), env=environment, stdout=-1, stderr=-2
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


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
            assert f"Backed up to {copy}" in await make("backup", copy, first)
            later = await hand_in(http)
        assert (await ended(http, later))["status"] == "EXECUTION_COMPLETED", "the database takes writes again"
        bearer = http.headers["Authorization"]
    assert not list((tmp_path / "first").glob("blobs.backup.*"))

    second = environment(tmp_path / "second")
    await make("restore", copy, second)
    async with running(second) as local, local.client() as http:
        http.headers["Authorization"] = bearer
        assert (await http.get(f"{done}/output")).raise_for_status().content == output.content
        assert (await ended(http, waiting))["status"] == "EXECUTION_COMPLETED"
        assert (await http.get(later)).status_code == 404, "it came after the backup"
        new = await hand_in(http, CONTENT + b", again")
        assert (await ended(http, new))["status"] == "EXECUTION_COMPLETED"

    # Nothing runs now, so there is no mongod to lock.
    await make("backup", tmp_path / "cold", second)
    assert {path.name for path in (tmp_path / "cold").iterdir()} == {"mongodb", "blobs", "keys"}


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
    for name in ("mongodb", "blobs", "keys"):
        (tmp_path / "other" / name).mkdir()
    with pytest.raises(BackupError, match="data is not empty"):
        restore(settings, tmp_path / "other", print)
    with pytest.raises(BackupError, match="other is not empty"):
        backup(settings, tmp_path / "other", print)
