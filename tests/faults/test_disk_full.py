"""The disk that blob writes to, or mongod, is full, and has room again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from common.mongo.client import Document
from tests.support.journey import ENOUGH_SECONDS, RAW, assert_completes, hand_in
from tests.support.local import environment, running
from tests.support.small_disk import small_disk

pytestmark = pytest.mark.long

DISK_BYTES = 16 * 2**20
LARGE = bytes(6 * 2**20)
MONGOD_BYTES = 400 * 2**20
LAST_LINE = "Ctrl-C stops everything; the data stays."


async def test_fault_23_the_disk_is_full(tmp_path: Path) -> None:
    async def post(http: httpx.AsyncClient) -> httpx.Response:
        # Of a length that nobody has declared, so that the disk is full in the middle of it.
        return await http.post("/api/v1/job?processor=checksum", content=in_pieces(LARGE), headers=RAW)

    data = tmp_path / "data"
    settings = {**environment(data), "FRONT_KEEP_INPUTS": "true", "BLOB_MIN_FREE_BYTES": "0"}
    with small_disk(data / "blobs", DISK_BYTES) as disk:
        async with running(settings) as local, local.client() as http, asyncio.timeout(ENOUGH_SECONDS):
            kept = []
            while (answer := await post(http)).status_code == 201:
                kept.append(answer.headers["Location"])
                await assert_completes(http, kept[-1], LARGE)
            assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full")
            assert len((await http.get("/api/v1/job")).json()["items"]) == len(kept) > 0
            assert list((disk / "staging").iterdir()) == []
            (await http.delete(kept[0])).raise_for_status()
            while (answer := await post(http)).status_code == 507:  # noqa: ASYNC110 - until another process has deleted
                await asyncio.sleep(0.1)
            assert answer.status_code == 201
            await assert_completes(http, answer.headers["Location"], LARGE)
            await assert_completes(http, await hand_in(http))


async def test_fault_23_the_disk_of_mongod_is_full(tmp_path: Path) -> None:
    settings = environment(tmp_path / "data")
    with small_disk(tmp_path / "data" / "mongodb", MONGOD_BYTES) as disk:
        async with running(settings) as local, local.client() as http, asyncio.timeout(ENOUGH_SECONDS):
            kept = await hand_in(http)
            await assert_completes(http, kept)
            fill(disk / "filler")
            with MongoClient[Document]("127.0.0.1", int(settings["MONGODB_PORT"])) as client, suppress(PyMongoError):
                client.admin.command("fsync")  # it writes to its files by itself, too, but takes up to a minute
            await local.process.wait()
        assert local.process.returncode == 1
        (said,) = local.said[local.said.index(LAST_LINE) + 1 :]
        assert said.startswith("mongod has no room: ")
        (disk / "filler").unlink()
        async with running(settings) as local, local.client() as http, asyncio.timeout(ENOUGH_SECONDS):
            await assert_completes(http, kept)


def fill(file: Path) -> None:
    """Leave no byte of its disk free."""
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(bytes(2**20)):
            pass


async def in_pieces(content: bytes, size: int = 2**16) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
