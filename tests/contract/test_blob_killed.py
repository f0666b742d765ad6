"""blob is killed, by SIGKILL, between a write, its fsync and the link, and after it: nothing is there, or all of it."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from services.blob.adapters.filesystem.master_keys import MasterKeys
from tests.contract.dying_writer import BLOB_ID, FACTS
from tests.contract.test_blob_store import put, read
from tests.support.marks import long
from tests.support.uploading import LONG, SHORT, WHOLE, opened

# Of a blob: the file, then the folder that it is linked into.
BLOB_POINTS = ["before the file's fsync", "before the link", "before the folder's fsync", "after it"]
# Of an upload's last part: its bytes, its record, the folder; and of its completion: the footer, the blob's folder, and
# the folder that the upload is removed from.
UPLOAD_FSYNCS = ["bytes", "record", "records", "footer", "blob", "removal"]
UPLOAD_POINTS = [f"{when} {what}" for what in UPLOAD_FSYNCS for when in ("before", "after")]


async def killed(root: Path, keys: MasterKeys, what: str, point: int) -> None:
    newest = [keys.newest] if keys.newest else []
    command = (sys.executable, "-m", "tests.contract.dying_writer", str(root), what, str(point), *newest)
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", range(1, len(BLOB_POINTS) + 1), ids=BLOB_POINTS)
async def test_a_blob_whose_writer_was_killed_is_whole_or_not_there(
    tmp_path: Path, keys: MasterKeys, point: int
) -> None:
    await killed(tmp_path, keys, "blob", point)
    async with opened(tmp_path, keys=keys) as store:
        linked = point > 2
        assert [blob.id for blob in await store.store.page("", "", 10)] == [BLOB_ID] * linked
        if linked:
            assert await read(await store.store.open(BLOB_ID)) == SHORT
        assert (await put(store.store, BLOB_ID, SHORT)).created is not linked
        assert await read(await store.store.open(BLOB_ID)) == SHORT
        assert await store.store.sweep_staging(-3600) == 1  # what was never published, or its other name
        assert list((tmp_path / "staging").iterdir()) == []
        assert await read(await store.store.open(BLOB_ID)) == SHORT


@pytest.mark.parametrize("point", [1, 2, *long(*range(3, len(UPLOAD_POINTS) + 1))], ids=UPLOAD_POINTS)
async def test_an_upload_whose_process_was_killed_at_its_end_goes_on(
    tmp_path: Path, keys: MasterKeys, point: int
) -> None:
    await killed(tmp_path, keys, "upload", point)
    async with opened(tmp_path, keys=keys) as store:
        received = await store.received(FACTS)
        assert set(WHOLE[:-1]) <= set(received)
        for number in set(WHOLE) - set(received):
            await store.send(FACTS, number)
        await store.completed(FACTS)
        assert (await store.uploads.complete(FACTS, [])).state == "COMPLETE"
        assert await store.read(FACTS) == LONG
        left = list((tmp_path / "uploads").iterdir())
        assert all(folder.name.startswith("~") for folder in left)  # a removal that was killed, for the sweep
