"""The processors that come with the platform, each from an upload to what its owner reads."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.platform import Platform, open_platform
from tests.unit.test_compress import DECODE


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("built-in"))
    async with open_platform(mongodb_uri, folder.name, folder) as platform:
        yield platform


async def done(platform: Platform, path: str, content: bytes, mimetype: str) -> dict[str, Any]:
    """The job's status once it is final."""
    alice = platform.client()
    answer = await alice.post(f"/api/v1/job?{path}", content=content, headers={"Content-Type": mimetype})
    assert answer.status_code == 201, answer.text
    return await platform.final(alice, answer.json()["id"])


async def read(platform: Platform, status: dict[str, Any], name: str) -> httpx.Response:
    assert status["status"] == "EXECUTION_COMPLETED", status
    answer = await platform.client().get(f"/api/v1/job/{status['id']}/output/{name}")
    assert answer.status_code == 200
    return answer


async def test_all_of_them_are_offered(platform: Platform) -> None:
    listed = (await platform.client().get("/api/v1/processor")).json()["items"]
    offered = {item["name"]: item for item in listed}
    assert offered.keys() == {"checksum", "compress", "image-variants"}
    assert all(item["params"]["additionalProperties"] is False for item in listed)


async def test_a_text_is_compressed(platform: Platform) -> None:
    content = b"Grist is corn that is brought to a mill. " * 10_000
    path = "processor=compress&name=grist.txt&level=19&threads=2"
    answer = await read(platform, await done(platform, path, content, "text/plain"), "grist.txt.zst")
    assert answer.headers["Content-Type"] == "application/zstd"
    assert len(answer.content) < len(content) / 100
    assert DECODE["zstd"](answer.content) == content


async def test_a_level_that_the_format_lacks_is_refused_before_anything_is_kept(platform: Platform) -> None:
    answer = await platform.client().post(
        "/api/v1/job?processor=compress&format=gzip&level=9", content=b"grist", headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/params/level"]
