"""What is over an operator's limits is refused before a byte of it is kept, and, where its size is told, sent."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.ids import new_id
from tests.support.platform import Platform, open_platform

LIMITS = {
    "checksum": {
        "text/*": {"maxBytes": 100},
        "text/csv": {"maxBytes": 10, "maxBatchFiles": 1},
        "maxBatchFiles": 3,
    }
}
# Of each media type, the size of the largest file: by the most exact entry, else by what holds for all.
LARGEST = [("text/csv", 10), ("text/plain", 100), ("application/octet-stream", 1000)]


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("limits"))
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder, limits=LIMITS, max_input_bytes=1000) as platform:
        yield platform


async def nothing_kept(platform: Platform) -> bool:
    jobs = await platform.core.jobs.jobs.count_documents({})
    inline = await platform.core.inline.waiting_bytes()
    return (jobs, inline, (await platform.blob.list()).items) == (0, 0, [])


@pytest.mark.parametrize(("mimetype", "most"), LARGEST)
async def test_a_file_that_is_too_large_is_refused(platform: Platform, mimetype: str, most: int) -> None:
    alice, url, content = platform.client(), "/api/v1/job", b"x" * (most + 1)
    raw, headers = f"{url}?processor=checksum", {"Content-Type": mimetype}

    async def never() -> AsyncIterator[bytes]:
        pytest.fail("the body was asked for")
        yield b""

    async def streamed() -> AsyncIterator[bytes]:
        yield content[:5]
        yield content[5:]

    declared = {**headers, "Content-Length": str(len(content))}
    encoded = base64.b64encode(content).decode()
    answers = {
        "declared": await alice.post(raw, content=never(), headers=declared),
        "streamed": await alice.post(raw, content=streamed(), headers=headers),
        "form": await alice.post(url, data={"processor": "checksum"}, files={"file": ("a", content, mimetype)}),
        "json": await alice.post(url, json={"processor": "checksum", "content": encoded, "mimetype": mimetype}),
    }
    told = {kind: (answer.status_code, answer.json()["type"]) for kind, answer in answers.items()}
    assert told == dict.fromkeys(answers, (413, "/problems/too-large"))
    assert all(str(most) in answer.json()["detail"] for answer in answers.values())
    assert await nothing_kept(platform)


async def test_a_batch_points_at_each_file_that_is_too_large(platform: Platform) -> None:
    files = [{"name": "a", "size": size, "mimetype": kind} for kind, most in LARGEST for size in (most, most + 1)]
    for pair in (files[:2], files[2:4], files[4:]):
        answer = await announce(platform, pair)
        assert answer.status_code == 413
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/files/1/size"]
    assert await nothing_kept(platform)


async def announce(platform: Platform, files: list[dict[str, Any]]) -> Any:
    return await platform.client().post("/api/v1/batch", json={"processor": "checksum", "files": files})


@pytest.mark.parametrize(
    ("kinds", "most"),
    [
        (["text/plain"] * 4, "3 files"),
        (["text/csv", "text/plain", "TEXT/CSV; charset=utf-8"], "1 files of text/csv"),
    ],
)
async def test_a_batch_of_too_many_files_is_refused(platform: Platform, kinds: list[str], most: str) -> None:
    answer = await announce(platform, [{"name": "a", "size": 1, "mimetype": kind} for kind in kinds])
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/files"
    assert most in fault["detail"]
    assert await nothing_kept(platform)


async def test_what_is_just_within_the_limits_is_taken(platform: Platform) -> None:
    alice = platform.client()
    for mimetype, most in LARGEST:
        answer = await alice.post(
            "/api/v1/job?processor=checksum", content=b"x" * most, headers={"Content-Type": mimetype}
        )
        assert answer.status_code == 201, answer.text
    kinds = ["text/csv", "text/plain", "application/octet-stream"]
    files = [{"name": "a", "size": most, "mimetype": kind} for kind, (_, most) in zip(kinds, LARGEST, strict=True)]
    assert (await announce(platform, files)).status_code == 201


async def test_other_processors_have_no_such_limits(platform: Platform) -> None:
    files = [{"name": "a", "size": 1000, "mimetype": "image/png"}] * 4
    answer = await platform.client().post("/api/v1/batch", json={"processor": "image-variants", "files": files})
    assert answer.status_code == 201
