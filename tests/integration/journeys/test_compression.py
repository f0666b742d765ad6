"""Files that come compressed: kept as they came, and worked on decoded."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from common.ids import input_blob_id, new_id
from gristmill.wire.processors import Encoding
from tests.fakes.encodings import ENCODE
from tests.support.platform import Platform, eventually, open_platform

ENCODINGS = tuple(ENCODE)
CHECKSUM = "/api/v1/job?processor=checksum"
TEXT = b"Grist is corn that is brought to a mill. " * 1000


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("compression"))
    # So that the inputs are there to be looked at when the jobs have ended.
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder, keep_inputs=True) as platform:
        yield platform


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def post(client: httpx.AsyncClient, path: str, content: bytes, encoding: str, mimetype: str) -> str:
    headers = {"Content-Type": mimetype, "Content-Encoding": encoding}
    answer = await client.post(path, content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def output(client: httpx.AsyncClient, status: dict[str, Any], n: int = 0) -> bytes:
    assert status["status"] == "EXECUTION_COMPLETED", status
    found = status["outputs"][n]
    content = (await client.get(found["href"])).content
    assert (sha256(content), len(content)) == (found["sha256"], found["size"])
    return content


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_compressed_file_is_kept_as_it_came_and_worked_on_decoded(
    platform: Platform, encoding: Encoding
) -> None:
    alice = platform.client()
    content = ENCODE[encoding](TEXT) + ENCODE[encoding](b"the end")
    job_id = await post(alice, CHECKSUM, content, encoding, "text/plain")
    status = await platform.final(alice, job_id)
    assert (status["encoding"], status["mimetype"], status["size"]) == (encoding, "text/plain", len(content))
    found = httpx.Response(200, content=await output(alice, status)).json()
    whole = TEXT + b"the end"
    assert found == {"algorithm": "sha256", "digest": sha256(whole), "size": len(whole)}
    kept = await platform.blob.head(input_blob_id(job_id))
    assert kept is not None
    assert (kept.size, kept.sha256) == (len(content), sha256(content))


async def test_a_compressed_picture_becomes_variants(platform: Platform) -> None:
    alice = platform.client()
    target = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(target, "TIFF")
    path = "/api/v1/job?processor=image-variants&widths=60&name=teal.tif"
    # The name that RFC 9110 has kept for it, in a spelling that is as good as any.
    job_id = await post(alice, path, ENCODE["gzip"](target.getvalue()), "X-Gzip", "image/tiff")
    status = await platform.final(alice, job_id)
    assert status["encoding"] == "gzip"
    assert [found["name"] for found in status["outputs"]] == ["teal-60.webp", "teal-original.webp"]
    with Image.open(io.BytesIO(await output(alice, status))) as variant:
        assert (variant.format, variant.size) == ("WEBP", (60, 40))


async def test_a_file_that_is_sent_as_it_is_says_so_or_nothing(platform: Platform) -> None:
    alice = platform.client()
    sent = ENCODE["gzip"](TEXT)  # once, because gzip notes the second
    job_id = await post(alice, CHECKSUM, sent, "identity", "application/gzip")
    status = await platform.final(alice, job_id)
    assert "encoding" not in status
    found = httpx.Response(200, content=await output(alice, status)).json()
    assert found["digest"] == sha256(sent)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_bomb_meets_the_limit_in_one_attempt(platform: Platform, encoding: Encoding) -> None:
    alice = platform.client()
    bomb = ENCODE[encoding](bytes(64 * 2**20))
    status = await platform.final(alice, await post(alice, CHECKSUM, bomb, encoding, "text/plain"))
    assert (status["status"], status["attempt"]) == ("EXECUTION_ERROR", 1)
    assert status["error"]["type"].endswith("/limit")
    assert status["error"]["fault"] == "user"
    assert "1,000 times" in status["error"]["detail"]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_broken_file_is_invalid_in_one_attempt(platform: Platform, encoding: Encoding) -> None:
    alice = platform.client()
    whole = ENCODE[encoding](TEXT)
    empty = ENCODE[encoding](b"")
    for broken in (whole[:-5], whole[:30] + bytes(len(whole) - 30), whole + b"rubbish", empty):
        status = await platform.final(alice, await post(alice, CHECKSUM, broken, encoding, "text/plain"))
        assert (status["status"], status["attempt"]) == ("EXECUTION_ERROR", 1)
        assert status["error"]["type"].endswith("/invalid-input")


async def test_a_compressed_file_that_is_not_of_its_media_type_is_invalid(platform: Platform) -> None:
    alice = platform.client()
    path = "/api/v1/job?processor=image-variants"
    status = await platform.final(alice, await post(alice, path, ENCODE["gzip"](TEXT), "gzip", "image/png"))
    assert (status["status"], status["attempt"]) == ("EXECUTION_ERROR", 1)
    assert status["error"]["type"].endswith("/invalid-input")


async def test_a_file_of_a_batch_may_be_uploaded_compressed(platform: Platform) -> None:
    alice = platform.client()
    content = ENCODE["zstd"](TEXT)
    file = {"name": "grist.txt.zst", "size": len(content), "mimetype": "text/plain", "sha256": sha256(content)}
    answer = await alice.post("/api/v1/batch", json={"processor": "checksum", "files": [{**file, "encoding": "zstd"}]})
    assert answer.status_code == 201, answer.text
    (item,) = answer.json()["items"]
    assert item["encoding"] == "zstd"
    plan = item["upload"]
    async with httpx.AsyncClient() as line:
        sent = await line.request(plan["method"], plan["url"], content=content, headers=plan["headers"])
    assert sent.is_success, sent.text

    async def found() -> bool:
        await platform.track_uploads()()
        status = (await alice.get(f"/api/v1/job/{item['id']}/status")).json()["status"]
        return bool(status != "CREATED")

    await eventually(found)
    status = await platform.final(alice, item["id"])
    assert httpx.Response(200, content=await output(alice, status)).json()["digest"] == sha256(TEXT)


async def test_an_encoding_that_a_batch_does_not_know_is_invalid(platform: Platform) -> None:
    file = {"name": "a", "size": 5, "mimetype": "text/plain", "encoding": "br"}
    answer = await platform.client().post("/api/v1/batch", json={"processor": "checksum", "files": [file]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/files/0/encoding"
