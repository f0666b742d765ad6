"""Keys are changed: the keys of files are wrapped anew, beside a blob that serves, and whatever dies on the way."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.contracts.upload import UploadFacts
from services.blob.adapters.filesystem.pieces import stored_size
from services.blob.adapters.footer import FOOTER_BYTES
from services.blob.settings import StoreSettings
from tests.contract.dying_writer import BLOB_ID, FACTS, UPLOAD_ID
from tests.contract.test_blob_store import put, read
from tests.fakes.keys import key_folder, master_keys
from tests.support.uploading import LONG, SHORT, WHOLE, facts_of, opened

# Of the upload: the new facts, and the folder that they are renamed in. Of the blob: one copy, and the other.
POINTS = [f"{when} {what}" for what in ("facts", "folder", "one copy", "the other") for when in ("before", "after")]


def rotation(data: Path, keys: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.blob.rotate"],
        env={"PATH": os.environ["PATH"], "BLOB_DATA_DIR": str(data), "BLOB_KEYS": str(keys)},
        capture_output=True,
        check=False,
        text=True,
    )


def file_of(data: Path, blob_id: str) -> Path:
    (path,) = data.glob(f"blobs/*/{blob_id}")
    return path


async def test_typical_journey(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", tmp_path / "keys"
    done, begun = facts_of(LONG), facts_of(LONG)
    async with opened(data) as blob:
        await put(blob.store, "b-plain", SHORT)
    async with opened(data, keys=master_keys("2025")) as blob:
        await put(blob.store, "b-1", LONG)
        await put(blob.store, "b-empty", b"")
        await blob.plan(done)
        await asyncio.gather(*(blob.send(done, number) for number in WHOLE))
        await blob.completed(done)
        await blob.plan(begun)
        await blob.send(begun, 1)
        stored = {blob_id: await blob.store.stat(blob_id) for blob_id in ("b-plain", "b-1", "b-empty", done.id)}
        # One that is open meanwhile is read to its end.
        reading = await blob.store.open("b-1")
        before = file_of(data, "b-1").read_bytes()

        rotated = await asyncio.to_thread(rotation, data, key_folder(keys, "2025", "2026"))
        assert (rotated.returncode, rotated.stdout) == (0, "")
        assert rotated.stderr.splitlines() == [
            "4 files were wrapped anew under 2026, and 0 could not be.",
            "Nothing needs these keys any more: 2025.",
        ]
        assert await read(reading) == LONG
    after = file_of(data, "b-1").read_bytes()
    assert after[: stored_size(len(LONG))] == before[: stored_size(len(LONG))]
    assert not [path for path in data.rglob("*") if path.is_file() and b"2025" in path.read_bytes()]

    StoreSettings(data_dir=data, keys=key_folder(keys, "2026"))
    async with opened(data, keys=master_keys("2026")) as blob:
        assert {blob_id: await blob.store.stat(blob_id) for blob_id in stored} == stored
        for blob_id, content in (("b-plain", SHORT), ("b-1", LONG), ("b-empty", b""), (done.id, LONG)):
            assert await read(await blob.store.open(blob_id)) == content
        assert await blob.received(begun) == [1]
        for number in WHOLE[1:]:
            await blob.send(begun, number)
        await blob.completed(begun)
        assert await blob.read(begun) == LONG
    again = rotation(data, keys)
    assert again.stderr == "0 files were wrapped anew under 2026, and 0 could not be.\n"


async def test_what_cannot_be_wrapped_anew_is_named_and_its_key_stays_known(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", tmp_path / "keys"
    for name in ("2024", "2025"):
        async with opened(data, keys=master_keys(name)) as blob:
            await put(blob.store, f"b-{name}", SHORT)
    lacking = rotation(data, key_folder(keys, "2025", "2026"))
    assert lacking.returncode == 2
    assert "The key 2024 is missing" in lacking.stderr
    (data / "known-keys/2024").unlink()  # as it says, for who has lost it
    lost = rotation(data, keys)
    assert lost.returncode == 1
    assert "b-2024: The bytes are encrypted under the key 2024, which isn't in BLOB_KEYS." in lost.stderr
    assert "1 files were wrapped anew under 2026, and 1 could not be." in lost.stderr
    assert {path.name for path in (data / "known-keys").iterdir()} == {"2025", "2026"}
    gone = rotation(tmp_path / "gone", keys)
    assert (gone.returncode, gone.stderr) == (2, "BLOB_DATA_DIR: It should be a folder that is there.\n")


async def test_a_plain_file_that_looks_encrypted_stays_as_it_is(tmp_path: Path) -> None:
    data, other, keys = tmp_path / "data", tmp_path / "other", tmp_path / "keys"
    async with opened(other, keys=master_keys("2025")) as blob:
        await put(blob.store, "b-1", SHORT)
    # With the footer of a plain file behind them, they lie where those of an encrypted one do.
    looks_encrypted = file_of(other, "b-1").read_bytes()[:-FOOTER_BYTES]
    async with opened(data) as blob:
        await put(blob.store, "b-1", looks_encrypted)
    rotated = rotation(data, key_folder(keys, "2025", "2026"))
    async with opened(data) as blob:
        assert await read(await blob.store.open("b-1")) == looks_encrypted
    assert rotated.returncode == 0


@pytest.mark.parametrize("point", range(1, len(POINTS) + 1), ids=POINTS)
async def test_a_rotation_that_was_killed_leaves_all_to_be_read_and_is_done_again(tmp_path: Path, point: int) -> None:
    data, keys = tmp_path / "data", tmp_path / "keys"
    begun = UploadFacts(**{**FACTS.model_dump(), "id": UPLOAD_ID})
    async with opened(data, keys=master_keys("2025")) as blob:
        await put(blob.store, BLOB_ID, SHORT)
        await blob.plan(begun)
        await blob.send(begun, 1)
    command = (sys.executable, "-m", "tests.contract.dying_writer", str(data), "rotation", str(point), "2025", "2026")
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == -signal.SIGKILL
    async with opened(data, keys=master_keys("2025", "2026")) as blob:
        assert await read(await blob.store.open(BLOB_ID)) == SHORT
        assert await blob.received(begun) == [1]
    assert (await asyncio.to_thread(rotation, data, key_folder(keys, "2025", "2026"))).returncode == 0
    async with opened(data, keys=master_keys("2026")) as blob:
        assert await read(await blob.store.open(BLOB_ID)) == SHORT
        for number in WHOLE[1:]:
            await blob.send(begun, number)
        await blob.completed(begun)
        assert await blob.read(begun) == LONG
