"""The processors that come with the platform, each from an upload to what its owner reads."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.fakes.pdfs import pdf
from tests.support.files import BERLIN, DECODE, encoded, exif, png_header
from tests.support.platform import Platform, open_platform

METADATA = "processor=extract-metadata"


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
    assert offered.keys() == {"checksum", "compress", "extract-metadata", "image-variants", "pdf"}
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


async def test_a_pdf_gives_facts_text_and_pictures(platform: Platform) -> None:
    path = "processor=pdf&outputs=text,pictures,info&pages=2-&width=100"
    status = await done(platform, path, pdf(3), "application/pdf")
    assert [output["name"] for output in status["outputs"]] == ["text.txt", "page-002.png", "page-003.png", "info.json"]
    answer = await read(platform, status, "text.txt")
    assert answer.text == "Page 2 of grist.\n\fPage 3 of grist.\n\f"
    assert (await read(platform, status, "info.json")).json()["pages"] == 3
    with Image.open(io.BytesIO((await read(platform, status, "page-003.png")).content)) as picture:
        assert picture.size == (100, 130)


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (pdf(password="grist"), "invalid-input", "protected by a password"),
        (pdf(3)[:700], "invalid-input", "cut short"),
        (pdf(2_001), "limit", "2,001 pages"),
    ],
    ids=["password", "truncated", "long"],
)
async def test_a_pdf_that_is_not_read_says_why_in_one_attempt(
    platform: Platform, content: bytes, kind: str, detail: str
) -> None:
    status = await done(platform, "processor=pdf", content, "application/pdf")
    assert (status["status"], status["attempt"]) == ("EXECUTION_ERROR", 1)
    assert status["error"]["type"].endswith(f"/{kind}")
    assert detail in status["error"]["detail"]


async def test_a_pixel_bomb_meets_the_limit_in_one_attempt(platform: Platform) -> None:
    status = await done(platform, "processor=image-variants", png_header(40_000, 40_000), "image/png")
    assert (status["status"], status["attempt"]) == ("EXECUTION_ERROR", 1)
    assert (status["error"]["type"], status["error"]["fault"]) == ("/problems/limit", "user")
    assert "40000 x 40000" in status["error"]["detail"]


async def test_bytes_that_are_no_pdf_are_refused_before_anything_is_kept(platform: Platform) -> None:
    answer = await platform.client().post(
        "/api/v1/job?processor=pdf", content=b"grist", headers={"Content-Type": "application/pdf"}
    )
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


async def test_where_a_picture_was_taken_is_told_only_when_asked_for(platform: Platform) -> None:
    content = encoded(exif=exif())
    found = (await read(platform, await done(platform, METADATA, content, "image/jpeg"), "metadata.json")).json()
    assert (found["image"]["width"], found["exif"]["Make"]) == (60, "Canon (x)")
    assert "location" not in found
    status = await done(platform, f"{METADATA}&location=true", content, "image/jpeg")
    assert (await read(platform, status, "metadata.json")).json()["location"] == BERLIN


async def test_a_file_of_an_unknown_kind_is_told_apart_by_its_content(platform: Platform) -> None:
    status = await done(platform, METADATA, pdf(3), "application/octet-stream")
    found = (await read(platform, status, "metadata.json")).json()
    assert (found["mediaType"], found["pdf"]["pages"]) == ("application/pdf", 3)
    broken = await done(platform, METADATA, encoded("PNG")[:20], "application/octet-stream")
    assert "broken" in (await read(platform, broken, "metadata.json")).json()["problem"]
